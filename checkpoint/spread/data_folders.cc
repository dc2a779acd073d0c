#include "checkpoint/spread/data_folders.h"

#include <nlohmann/json.hpp>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint::spread {

using base::Code;
using base::Fail;
using base::Result;

namespace {

constexpr std::uint64_t kRecordBytesMax = 1U << 20;
constexpr std::size_t kIdDigits = 32;

bool IsId(const std::string& text) {
  return text.size() == kIdDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool IsPath(const std::string& text) {
  return text.size() > 1 && text.find('\0') == std::string::npos && text.starts_with('/') && !text.ends_with('/') &&
         text.find("//") == std::string::npos && (text + "/").find("/../") == std::string::npos;
}

std::string Word(const nlohmann::json& json, const char* key) {
  const auto at = json.find(key);
  return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// The record as a tree, if it is one of this kind.
Result<nlohmann::json> Parse(std::string_view text, const char* format) {
  if (auto checked = CheckJson(text, 4); !checked) return base::Wrap(std::move(checked).error(), format, " record");
  auto json = nlohmann::json::parse(text);
  if (Word(json, "format") != format) return Fail(Code::kCorrupt, "not a ", format, " record");
  const auto version = json.find("version");
  if (version == json.end() || *version != 1U) {
    return Fail(Code::kFormatVersion, "a ", format, " record of another version than 1");
  }
  return json;
}

}  // namespace

std::string DataFoldersFile(const std::string& home) { return home + "/.belayd/folders.json"; }
std::string MembershipFile(const std::string& folder) { return folder + "/.belayd/folder.json"; }

std::string EncodeDataFolders(const DataFolders& folders) {
  std::string text =
      base::Str("{\n \"format\": \"belay-data-folders\",\n \"version\": 1,\n \"id\": ", JsonString(folders.id),
                ",\n \"folders\": [");
  for (const OtherFolder& folder : folders.others) {
    text += base::Str(&folder == folders.others.data() ? "\n" : ",\n", "  {\"path\": ", JsonString(folder.path),
                      ", \"id\": ", JsonString(folder.id), ", \"retired\": ", folder.retired ? "true" : "false", "}");
  }
  return text + "\n ]\n}\n";
}

std::string EncodeMembership(const Membership& membership) {
  return base::Str("{\n \"format\": \"belay-data-folder\",\n \"version\": 1,\n \"id\": ", JsonString(membership.id),
                   ",\n \"home\": ", JsonString(membership.home),
                   ",\n \"home_path\": ", JsonString(membership.home_path), "\n}\n");
}

Result<DataFolders> DecodeDataFolders(std::string_view text) {
  BELAY_ASSIGN(const nlohmann::json json, Parse(text, "belay-data-folders"));
  DataFolders out{Word(json, "id"), {}};
  const auto folders = json.find("folders");
  if (!IsId(out.id) || folders == json.end() || !folders->is_array()) {
    return Fail(Code::kCorrupt, "a belay-data-folders record without id or folders");
  }
  for (const nlohmann::json& one : *folders) {
    if (!one.is_object()) return Fail(Code::kCorrupt, "a belay-data-folders record with a folder that is none");
    const auto retired = one.find("retired");
    OtherFolder folder{Word(one, "path"), Word(one, "id"), retired != one.end() && *retired == true};
    if (!IsPath(folder.path) || !IsId(folder.id)) {
      return Fail(Code::kCorrupt, "a belay-data-folders record with a folder without path or id");
    }
    out.others.push_back(std::move(folder));
  }
  return out;
}

Result<Membership> DecodeMembership(std::string_view text) {
  BELAY_ASSIGN(const nlohmann::json json, Parse(text, "belay-data-folder"));
  Membership out{Word(json, "id"), Word(json, "home"), Word(json, "home_path")};
  if (!IsId(out.id) || !IsId(out.home)) return Fail(Code::kCorrupt, "a belay-data-folder record without its ids");
  return out;
}

Result<DataFolders> ReadDataFolders(base::FileSystem& files, const std::string& home) {
  const std::string path = DataFoldersFile(home);
  const auto text = base::ReadWholeFile(files, path, kRecordBytesMax);
  if (!text && text.error().code == Code::kNotFound) return DataFolders{};
  if (!text) return tl::unexpected(text.error());
  auto folders = DecodeDataFolders(*text);
  if (!folders) return base::Wrap(std::move(folders).error(), path);
  return folders;
}

Result<Membership> ReadMembership(base::FileSystem& files, const std::string& folder) {
  const std::string path = MembershipFile(folder);
  BELAY_ASSIGN(const std::string text, base::ReadWholeFile(files, path, kRecordBytesMax));
  auto membership = DecodeMembership(text);
  if (!membership) return base::Wrap(std::move(membership).error(), path);
  return membership;
}

base::Status CheckHere(base::FileSystem& files, const std::string& home_id, const OtherFolder& folder) {
  const auto membership = ReadMembership(files, folder.path);
  if (!membership) {
    if (membership.error().code != Code::kNotFound) {
      return base::Wrap(membership.error(), "the data folder ", folder.path, " cannot be used");
    }
    return Fail(Code::kFolderMissing, "the data folder ", folder.path, " is not there (no ",
                MembershipFile(folder.path), "): is its drive mounted?");
  }
  if (membership->home == home_id && membership->id == folder.id) return {};
  return Fail(Code::kFolderMissing, "what is at ", folder.path, " is another data folder than the one that was there (",
              membership->home == home_id ? std::string("of the same home") : "of " + membership->home_path,
              "): are the drives mounted where they were?");
}

}  // namespace belay::checkpoint::spread
