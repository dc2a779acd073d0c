#include "tests/crash/disk_model.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "checkpoint/format/digest.h"
#include "runtime/base/check.h"

namespace belay::crash {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
// More forms than this of one file's bytes, and they become a selection.
constexpr std::size_t kFormsMax = 2000;

ContentPtr MakeContent(std::string bytes, bool is_link = false) {
  const auto digest = checkpoint::DigestChunk(std::as_bytes(std::span(bytes)));
  std::string text(reinterpret_cast<const char*>(digest.data()), digest.size());
  text += base::Str(bytes.size(), is_link ? " link" : "");
  return std::make_shared<const Content>(Content{std::move(bytes), std::move(text), is_link});
}

void Grow(std::string& bytes, std::uint64_t size) {
  if (bytes.size() < size) bytes.resize(size, '\0');
}

}  // namespace

std::string DiskImage::Key() const {
  std::string text;
  for (const auto& [path, content] : paths) text += path + '\0' + (content ? content->digest : "/") + '\0';
  for (const auto& [key, value] : index) text += key + '\0' + value + '\0';
  const auto digest = checkpoint::DigestChunk(std::as_bytes(std::span(text)));
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

struct DiskModel::Node {
  struct Data {  // one operation on the bytes since the last sync
    std::uint64_t offset = 0;
    std::string bytes;
    std::optional<std::uint64_t> size;
  };

  std::uint64_t number = 0;
  bool is_folder = false;
  bool is_link = false;  // its bytes say where to, and are as durable as its name
  bool is_gone = false;  // a folder that no durable name leads to any more
  std::map<std::string, NodePtr> names, durable_names;
  std::string durable_bytes;
  std::vector<Data> since;
  mutable std::vector<ContentPtr> forms;  // what ContentsOf found; empty: not asked since the last change
  mutable bool forms_complete = true;

  std::string Bytes() const {
    std::string bytes = durable_bytes;
    for (const Data& data : since) Put(bytes, data);
    return bytes;
  }
  static void Put(std::string& bytes, const Data& data) {
    if (data.size) return bytes.resize(*data.size, '\0');
    Grow(bytes, data.offset + data.bytes.size());
    bytes.replace(data.offset, data.bytes.size(), data.bytes);
  }
};

DiskModel::DiskModel() : root_(NewNode(true)) {}
DiskModel::~DiskModel() = default;

DiskModel::NodePtr DiskModel::NewNode(bool is_folder) {
  auto node = std::make_shared<Node>();
  node->number = ++nodes_;
  node->is_folder = is_folder;
  return node;
}

DiskModel::NodePtr DiskModel::Find(const std::string& path) const {
  NodePtr node = root_;
  for (std::size_t start = 1; node != nullptr && start < path.size();) {
    const std::size_t slash = std::min(path.find('/', start), path.size());
    const auto found = node->names.find(path.substr(start, slash - start));
    node = found == node->names.end() ? nullptr : found->second;
    start = slash + 1;
  }
  return node;
}

void DiskModel::ChangeNames(Change change) {
  for (const NameChange& name : change) {
    if (name.node != nullptr)
      name.folder->names[name.name] = name.node;
    else
      name.folder->names.erase(name.name);
  }
  pending_.push_back(std::move(change));
}

void DiskModel::Apply(const DiskOperation& operation) {
  using Kind = DiskOperation::Kind;
  const auto folder = [&](const std::string& path) {
    NodePtr found = Find(base::ParentPath(path));
    BELAY_CHECK(found != nullptr, "no folder for ", path);
    return found;
  };
  const auto name = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  const auto data = [&](Node::Data what) {
    Node& node = *opened_.at(operation.handle);
    node.since.push_back(std::move(what));
    node.forms.clear();
  };
  switch (operation.kind) {
    case Kind::kOpen: {
      NodePtr node = Find(operation.path);
      const bool is_new = node == nullptr;
      if (is_new) {
        node = NewNode(false);
        ChangeNames({{folder(operation.path), name(operation.path), node}});
      }
      opened_[operation.handle] = node;
      if (!is_new && operation.truncate) data({0, {}, 0});
      return;
    }
    case Kind::kWrite:
      return data({operation.offset, operation.bytes, std::nullopt});
    case Kind::kResize:
      return data({0, {}, operation.offset});
    case Kind::kSync: {
      Node& node = *opened_.at(operation.handle);
      node.durable_bytes = node.Bytes();
      node.since.clear();
      node.forms.clear();
      return;
    }
    case Kind::kLink:
      return ChangeNames({{folder(operation.to), name(operation.to), Find(operation.path)}});
    case Kind::kLinkSymbolic: {
      NodePtr node = NewNode(false);
      node->is_link = true;
      node->durable_bytes = operation.path;
      return ChangeNames({{folder(operation.to), name(operation.to), std::move(node)}});
    }
    case Kind::kRename:
      return ChangeNames({{folder(operation.to), name(operation.to), Find(operation.path)},
                          {folder(operation.path), name(operation.path), nullptr}});
    case Kind::kRemove:
    case Kind::kRemoveDirectory:
      return ChangeNames({{folder(operation.path), name(operation.path), nullptr}});
    case Kind::kMakeDirectory:
      return ChangeNames({{folder(operation.path), name(operation.path), NewNode(true)}});
    case Kind::kSyncDirectory:
      return MakeDurable(Find(operation.path));
    case Kind::kIndex:
      for (const auto& [key, value] : operation.batch.operations()) {
        if (value)
          index_[key] = *value;
        else
          index_.erase(key);
      }
      return;
  }
}

// Every pending change of the folder. What belay renames stays in its folder, so that no other folder comes with it.
void DiskModel::MakeDurable(const NodePtr& folder) {
  std::vector<Change> left;
  for (Change& change : pending_) {
    const bool touched = std::ranges::any_of(change, [&](const NameChange& name) { return name.folder == folder; });
    if (!touched) {
      left.push_back(std::move(change));
      continue;
    }
    for (const NameChange& name : change) {
      BELAY_CHECK(name.folder == folder, "a rename from folder to folder: teach the model about it");
      const auto old = folder->durable_names.find(name.name);
      if (old != folder->durable_names.end() && old->second->is_folder) old->second->is_gone = true;
      if (name.node != nullptr)
        folder->durable_names[name.name] = name.node;
      else
        folder->durable_names.erase(name.name);
    }
  }
  // Nothing leads to a folder that is gone; whatever happened to its names cannot be seen any more.
  std::erase_if(left, [](const Change& change) {
    return std::ranges::all_of(change, [](const NameChange& name) { return name.folder->is_gone; });
  });
  pending_ = std::move(left);
}

DiskModel::Tree DiskModel::TreeOf(const std::vector<bool>& survives) const {
  std::map<const Node*, std::map<std::string, NodePtr>> changed;
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    if (!survives[i]) continue;
    for (const NameChange& name : pending_[i]) {
      auto& names = changed.try_emplace(name.folder.get(), name.folder->durable_names).first->second;
      if (name.node != nullptr)
        names[name.name] = name.node;
      else
        names.erase(name.name);
    }
  }
  Tree tree;
  std::vector<std::pair<std::string, const Node*>> todo = {{"", root_.get()}};
  while (!todo.empty()) {
    const auto [path, node] = todo.back();
    todo.pop_back();
    const auto found = changed.find(node);
    for (const auto& [name, child] : found == changed.end() ? node->durable_names : found->second) {
      const std::string whole = path + "/" + name;
      tree[whole] = child;
      if (child->is_folder) todo.emplace_back(whole, child.get());
    }
  }
  return tree;
}

DiskImage DiskModel::Visible() const {
  DiskImage image{{}, index_};
  for (const auto& [path, node] : TreeOf(std::vector<bool>(pending_.size(), true))) {
    image.paths[path] = node->is_folder ? nullptr : MakeContent(node->Bytes(), node->is_link);
  }
  return image;
}

// Everything that the bytes of a file may be. The first form is as it was, the last as it was meant to be.
const std::vector<ContentPtr>& DiskModel::ContentsOf(const Node& node, bool& complete) {
  if (!node.forms.empty()) {
    complete = complete && node.forms_complete;
    return node.forms;
  }
  if (node.is_link) {
    node.forms = {MakeContent(node.durable_bytes, true)};
    return node.forms;
  }
  std::vector<std::uint64_t> sizes = {node.durable_bytes.size()};
  std::string now = node.durable_bytes;
  std::vector<std::vector<std::string>> pages;  // each one's possibilities
  const auto look = [&](const std::string& bytes) {
    for (std::uint64_t start = 0; start < bytes.size(); start += kPageBytes) {
      if (pages.size() <= start / kPageBytes) pages.emplace_back(1, std::string(kPageBytes, '\0'));
      std::string page = bytes.substr(start, kPageBytes);
      Grow(page, kPageBytes);
      auto& known = pages[start / kPageBytes];
      if (std::ranges::find(known, page) == known.end()) known.push_back(std::move(page));
    }
  };
  // A page below the old end is never zeros by accident: its first possibility is what it was.
  for (std::uint64_t start = 0; start < now.size(); start += kPageBytes) {
    pages.emplace_back(1, now.substr(start, kPageBytes));
    Grow(pages.back().front(), kPageBytes);
  }
  for (const Node::Data& data : node.since) {
    Node::Put(now, data);
    sizes.push_back(now.size());
    look(now);
  }
  const std::string meant = now;
  for (std::size_t p = 0; p < pages.size(); ++p) {
    auto& known = pages[p];
    if (known.size() < 2) continue;
    const std::string first = known.front(), last = known.back();
    const std::uint64_t bytes = std::min(kPageBytes, *std::ranges::max_element(sizes) - p * kPageBytes);
    for (const auto& [head, tail] : {std::pair(&last, &first), std::pair(&first, &last)}) {
      std::string torn = head->substr(0, bytes / 2) + tail->substr(bytes / 2);
      if (std::ranges::find(known, torn) == known.end()) known.push_back(std::move(torn));
    }
  }
  std::ranges::sort(sizes);
  sizes.erase(std::ranges::unique(sizes).begin(), sizes.end());

  std::size_t forms = 1;
  for (const auto& known : pages) forms = std::min(forms * known.size(), kFormsMax + 1);
  node.forms_complete = forms <= kFormsMax;
  std::set<std::string> seen;
  const auto add = [&](std::string bytes) {
    ContentPtr content = MakeContent(std::move(bytes));
    if (seen.insert(content->digest).second) node.forms.push_back(std::move(content));
  };
  const auto meant_digest = MakeContent(meant)->digest;
  add(node.durable_bytes);
  if (node.durable_bytes != meant) seen.insert(meant_digest);  // it comes last
  for (const std::uint64_t size : sizes) {
    const std::uint64_t count = (size + kPageBytes - 1) / kPageBytes;
    std::vector<std::size_t> chosen(count, 0);
    const auto emit = [&] {
      std::string bytes;
      for (std::uint64_t p = 0; p < count; ++p) bytes += pages[p][chosen[p]];
      bytes.resize(size);
      add(std::move(bytes));
    };
    if (node.forms_complete) {
      for (bool more = true; more;) {
        emit();
        more = false;
        for (std::uint64_t p = 0; p < count && !more; ++p) {
          more = ++chosen[p] < pages[p].size();
          if (!more) chosen[p] = 0;
        }
      }
      continue;
    }
    for (const bool written : {false, true}) {  // one page alone in all its forms, the others as they were or as meant
      for (std::uint64_t p = 0; p < count; ++p) {
        for (std::size_t form = 0; form < pages[p].size(); ++form) {
          for (std::uint64_t q = 0; q < count; ++q) chosen[q] = written && pages[q].size() > 1 ? 1 : 0;
          chosen[p] = form;
          emit();
        }
      }
    }
  }
  if (node.durable_bytes != meant) node.forms.push_back(MakeContent(meant));
  complete = complete && node.forms_complete;
  return node.forms;
}

std::vector<std::vector<bool>> DiskModel::NameSubsets(std::size_t all_max, bool& complete) const {
  const std::size_t count = pending_.size();
  std::set<std::vector<bool>> subsets;
  if (count <= all_max) {
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << count; ++bits) {
      std::vector<bool> subset(count);
      for (std::size_t i = 0; i < count; ++i) subset[i] = (bits >> i & 1) != 0;
      subsets.insert(std::move(subset));
    }
    return {subsets.begin(), subsets.end()};
  }
  complete = false;
  for (std::size_t end = 0; end <= count; ++end) {
    std::vector<bool> beginning(count, false);
    std::fill_n(beginning.begin(), end, true);
    subsets.insert(beginning);
    for (std::size_t i = 0; i < end; ++i) {
      beginning[i] = false;
      subsets.insert(beginning);
      beginning[i] = true;
    }
  }
  for (const bool most : {false, true}) {
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = i; j < count; ++j) {
        std::vector<bool> subset(count, most);
        subset[i] = subset[j] = !most;
        subsets.insert(std::move(subset));
      }
    }
  }
  return {subsets.begin(), subsets.end()};
}

bool DiskModel::ForEachImage(const EnumerationLimits& limits,
                             const std::function<void(const DiskImage&)>& visit) const {
  bool complete = true;
  std::set<std::string> trees;
  for (const std::vector<bool>& subset : NameSubsets(limits.all_name_subsets_max, complete)) {
    const Tree tree = TreeOf(subset);
    std::string key;
    for (const auto& [path, node] : tree) key += base::Str(path, ' ', node->number, '\n');
    if (!trees.insert(key).second) continue;

    DiskImage image{{}, index_};
    std::map<const Node*, std::vector<std::string>> dirty;  // paths by node: a file may have two names
    std::size_t combinations = 1;
    for (const auto& [path, node] : tree) {
      image.paths[path] = node->is_folder ? nullptr : ContentsOf(*node, complete).front();
      if (node->is_folder || node->forms.size() == 1) continue;
      if (dirty[node.get()].empty()) combinations = std::min(combinations * node->forms.size(), std::size_t{1} << 40);
      dirty[node.get()].push_back(path);
    }
    const auto put = [&](const Node& node, const ContentPtr& content) {
      for (const std::string& path : dirty.at(&node)) image.paths[path] = content;
    };
    if (combinations <= limits.all_contents_max) {
      std::vector<std::pair<const Node*, std::size_t>> chosen;
      for (const auto& [node, paths] : dirty) chosen.emplace_back(node, 0);
      for (bool more = true; more;) {
        visit(image);
        more = false;
        for (auto& [node, form] : chosen) {
          more = ++form < node->forms.size();
          if (!more) form = 0;
          put(*node, node->forms[form]);
          if (more) break;
        }
      }
      continue;
    }
    complete = false;
    for (const bool written : {false, true}) {
      for (const auto& [alone, paths] : dirty) {
        for (const auto& [node, others] : dirty) put(*node, written ? node->forms.back() : node->forms.front());
        for (const ContentPtr& form : alone->forms) {
          put(*alone, form);
          visit(image);
        }
      }
    }
  }
  return complete;
}

}  // namespace belay::crash
