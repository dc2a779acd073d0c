#include "belay/metrics.h"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "belay/session.h"
#include "runtime/base/environment.h"
#include "runtime/metrics/metrics_files.h"
#include "runtime/session/session_state.h"

namespace belay {

class Metrics::Impl {
 public:
  Impl(Session& session, std::int64_t total_steps)
      : run_(session.state()),
        clock_(base::SystemClock()),
        files_(base::PosixFileSystem(), clock_, run_.place.rank == 0 ? run_.environment.run_directory : "",
               base::Str(base::HostName(), ".", base::ProcessId())) {
    if (run_.page() != nullptr) run_.page()->total_steps.store(total_steps);
  }

  void Step(std::int64_t step, const StepMetrics& metrics) {
    // Between calls lies exactly one step; before the first call nobody knows since when.
    const auto now = clock_.Now();
    double samples_per_second = std::numeric_limits<double>::quiet_NaN();
    double tokens_per_second = samples_per_second;
    if (last_ && now > *last_) {
      const double rate = run_.place.world_size / std::chrono::duration<double>(now - *last_).count();
      samples_per_second = rate * static_cast<double>(metrics.samples);
      if (metrics.tokens > 0) tokens_per_second = rate * static_cast<double>(metrics.tokens);
    }
    last_ = now;
    Commits();
    const double stall_ms = 1e3 * run_.stall_seconds;
    run_.stall_seconds = 0;
    if (auto* page = run_.page(); page != nullptr) {
      page->loss_bits.store(base::DoubleBits(metrics.loss));
      page->samples_per_second_bits.store(base::DoubleBits(samples_per_second));
      page->tokens_per_second_bits.store(base::DoubleBits(tokens_per_second));
      page->data_wait_ms_bits.store(base::DoubleBits(1e3 * metrics.data_wait_seconds));
    }
    if (!files_.Writing()) return;
    runtime::NamedScalars values{{"loss", metrics.loss}};
    if (!std::isnan(samples_per_second)) values.emplace_back("samples_per_second", samples_per_second);
    if (!std::isnan(tokens_per_second)) values.emplace_back("tokens_per_second", tokens_per_second);
    values.emplace_back("stall_ms", stall_ms);
    values.emplace_back("data_wait_s", metrics.data_wait_seconds);
    for (const auto& [name, value] : metrics.extra) values.emplace_back(name, value);
    files_.Scalars(step, values);
  }

  // The last save is committed by finish(), after the last step.
  ~Impl() { Commits(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  runtime::MetricsFiles& files() { return files_; }

 private:
  void Commits() {
    for (const auto& commit : std::exchange(run_.commits, {})) {
      files_.Scalars(commit.step, {{"copy_seconds", commit.copy_seconds}, {"commit_seconds", commit.commit_seconds}});
    }
  }

  detail::SessionState& run_;
  base::Clock& clock_;
  runtime::MetricsFiles files_;
  std::optional<base::SteadyTime> last_;
};

Metrics::Metrics(Session& session, std::int64_t total_steps) : impl_(std::make_unique<Impl>(session, total_steps)) {}
Metrics::~Metrics() = default;
void Metrics::step(std::int64_t step, const StepMetrics& metrics) { impl_->Step(step, metrics); }
void Metrics::scalar(std::int64_t step, const std::string& name, double value) {
  impl_->files().Scalars(step, {{name, value}});
}
void Metrics::text(std::int64_t step, const std::string& name, const std::string& value) {
  impl_->files().Text(step, name, value);
}

}  // namespace belay
