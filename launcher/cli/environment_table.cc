#include "launcher/cli/environment_table.h"

#include <iterator>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

constexpr EnvironmentVariable kTable[] = {
    {"BELAY_DATA_DIR", "user",
     "where checkpoints and run directories live; default $XDG_DATA_HOME/belay or ~/.local/share/belay"},
    {"BELAY_SOCKET", "user", "the belayd to talk to; default: found, or a private one is started"},
    {"BELAY_PROJECT", "user", "project of the job; default: default"},
    {"BELAY_GRACE_SECONDS", "user", "default of --grace"},
    {"BELAY_MAX_RESTARTS", "user", "default of --max-restarts"},
    {"BELAY_LOG_DIR", "user", "default of --log-dir"},
    {"BELAY_LAUNCH_TIMEOUT", "user", "default of --launch-timeout"},
    {"BELAY_PROGRESS", "user", "default of --progress: auto, always, never"},
    {"BELAY_LOG", "user", "level of belay's own logs: debug, info, warning, error"},
    {"BELAY_DEVICE", "user",
     "cpu keeps training off the GPUs, cuda refuses to run without one; default: a GPU for every rank if there are "
     "any"},
    {"XDG_RUNTIME_DIR", "user", "private sockets go to its belay folder; else /tmp/belay-<uid>"},
    {"RANK", "rank", "index of the rank in the world"},
    {"LOCAL_RANK", "rank", "index of the rank on its node"},
    {"WORLD_SIZE", "rank", "number of ranks"},
    {"LOCAL_WORLD_SIZE", "rank", "number of ranks on the node"},
    {"GROUP_RANK", "rank", "index of the node"},
    {"MASTER_ADDR", "rank", "host of rank 0, for init_process_group(\"env://\")"},
    {"MASTER_PORT", "rank", "a port that was free when the attempt began; another one each restart"},
    {"BELAY_JOB", "rank", "the job"},
    {"BELAY_PROJECT", "rank", "its project"},
    {"BELAY_GENERATION", "rank", "raised by every start and restart of the job"},
    {"BELAY_RESTART_COUNT", "rank", "restarts within this run, 0 at first"},
    {"BELAY_SOCKET", "rank", "the run's belayd"},
    {"BELAY_DATA_DIR", "rank", "its data directory"},
    {"BELAY_RUN_DIR", "rank", "folder of this attempt: logs, metrics.jsonl, event files"},
    {"BELAY_GRACE_SECONDS", "rank", "time the last save may take after a stop"},
    {"BELAY_CONTROL_FD", "rank", "descriptor of the control page shared with belay-rank"},
    {"BELAY_ATTEMPT", "rank", "the mark by which belay finds every process of an attempt at its end; leave it alone"},
    {"OMP_NUM_THREADS", "rank", "cores / ranks of the node, unless it is set"},
    {"PYTHONUNBUFFERED", "rank", "1, unless it is set: a killed program's last lines are not lost"},
    {"SLURM_JOB_NODELIST", "batch", "the job's nodes; SLURM_NODELIST is its older name"},
    {"SLURM_TASKS_PER_NODE", "batch",
     "slots of each node; else SLURM_NTASKS_PER_NODE, else SLURM_NTASKS spread over the nodes"},
    {"SLURM_STEP_NODELIST", "batch",
     "the nodes of a step of srun, with SLURM_STEP_ID and SLURM_STEP_TASKS_PER_NODE or SLURM_STEP_NUM_TASKS"},
    {"SLURM_JOB_CPUS_PER_NODE", "batch", "cores of each node"},
    {"SLURM_GPUS_PER_NODE", "batch", "GPUs of every node; else SLURM_GPUS_ON_NODE or SLURM_JOB_GPUS, of this node"},
    {"SLURM_JOB_ID", "batch",
     "the job; also SLURM_RESTART_COUNT, SLURM_JOB_START_TIME, SLURM_JOB_END_TIME, SLURM_HET_SIZE, SLURMD_NODENAME"},
    {"PBS_NODEFILE", "batch", "file with a line for each slot; also PBS_JOBID, PBS_NP, NCPUS, PBS_WALLTIME"},
    {"LSB_JOBID", "batch", "an LSF job; also LSB_JOBINDEX, CSM_ALLOCATION_ID"},
    {"LSB_MCPU_HOSTS", "batch", "its hosts, each with its slots; else LSB_HOSTS, else the file LSB_DJOB_HOSTFILE"},
    {"OMPI_MCA_orte_default_hostfile", "batch",
     "the MPI operator's hostfile; or PRTE_MCA_prte_default_hostfile, I_MPI_HYDRA_HOST_FILE, HYDRA_HOST_FILE; with "
     "OMPI_MCA_orte_set_default_slots"},
    {"K_MPI_JOB_ROLE", "batch",
     "launcher: in a pod of the MPI operator, whose hostfile is /etc/mpi/hostfile; also KUBERNETES_SERVICE_HOST"},
    {"BELAY_FAULTS", "test", "arms fault points: name=kill|stop|io|nospace|unavailable[@n],..."},
};

void Part(std::string& text, std::string_view title, std::string_view side) {
  text += base::Str(title, "\n");
  for (const EnvironmentVariable& v : kTable) {
    if (v.side == side)
      text += base::Str("  ", v.name, std::string(v.name.size() < 22 ? 22 - v.name.size() : 1, ' '), v.meaning, "\n");
  }
}

}  // namespace

std::span<const EnvironmentVariable> EnvironmentTable() { return kTable; }

std::string RenderEnvironmentTable() {
  std::string text;
  Part(text, "Read by belay (an option on the command line wins):", "user");
  Part(text, "\nSet for every rank (torchrun's names, then belay's):", "rank");
  Part(text, "\nRead from batch systems, for the allocation that belay explain shows:", "batch");
  Part(text, "\nFor tests:", "test");
  return text;
}

}  // namespace belay::launcher
