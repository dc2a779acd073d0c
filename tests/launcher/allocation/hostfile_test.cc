#include "launcher/allocation/hostfile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Node N(const std::string& name, std::int32_t slots) { return {name, slots, {}, {}}; }

base::Result<std::vector<Node>> List(std::string_view text) {
  BELAY_ASSIGN(const auto entries, ParseHostList(text, {.where = "--host"}));
  return NodesOf(entries, "--host");
}
base::Result<std::vector<Node>> File(std::string_view text, bool colon_counts = false) {
  BELAY_ASSIGN(const auto entries, ParseHostfile(text, {.where = "f", .colon_counts = colon_counts}));
  return NodesOf(entries, "f");
}
std::string Complaint(const base::Result<std::vector<Node>>& nodes) { return nodes ? "none" : nodes.error().message; }

TEST(HostfileTest, ReadsHostLists) {
  EXPECT_THAT(*List("a:4,b"), ElementsAre(N("a", 4), N("b", 1)));
  EXPECT_THAT(*List("b,a:2,b,b:3"), ElementsAre(N("b", 5), N("a", 2))) << "repeated names add up";
  EXPECT_THAT(*List("::1,fe80::2"), ElementsAre(N("::1", 1), N("fe80::2", 1)));
}

TEST(HostfileTest, ReadsOpenMpisSyntax) {
  EXPECT_THAT(*File("# ours\n\na slots=4 max_slots=8 # big\r\n\tb\n  c slots=2 max-slots=2\na slots=1"),
              ElementsAre(N("a", 5), N("b", 1), N("c", 2)));
}

TEST(HostfileTest, ReadsMpichsSyntaxWhereItIsAskedFor) {
  EXPECT_THAT(*File("a:8\nb:8\n", true), ElementsAre(N("a", 8), N("b", 8)));
  EXPECT_THAT(*File("a slots=8\n::1\n", true), ElementsAre(N("a", 8), N("::1", 1)));
  EXPECT_THAT(Complaint(File("a:8 slots=8\n", true)), HasSubstr("slots twice for a"));
  EXPECT_THAT(Complaint(File("a:8\n")), HasSubstr("f, line 1: 'a:8' is no host name"));
}

TEST(HostfileTest, ComplaintsNameTheLineWhatWasFoundAndWhatIsRight) {
  EXPECT_THAT(Complaint(List("")), HasSubstr("--host names no host"));
  EXPECT_THAT(Complaint(List("a,,b")), HasSubstr("--host 'a,,b' has an empty entry"));
  EXPECT_THAT(Complaint(List("a:0")), HasSubstr("--host: slots of 'a' wants a whole number from 1 to 100000, not '0'"));
  EXPECT_THAT(Complaint(List("a:")), HasSubstr("not ''"));
  EXPECT_THAT(Complaint(List("bob@a:2")),
              HasSubstr("names a user; belay starts ranks as the user who runs it: write 'a'"));
  EXPECT_THAT(Complaint(List("-a")), HasSubstr("'-a' is no host name"));
  EXPECT_THAT(Complaint(List("a:100000,a")), HasSubstr("adds up to more than 100000"));
  EXPECT_THAT(Complaint(File("a\nb slot=2\n")),
              HasSubstr("f, line 2 says 'slot=2'; known are slots=N and max_slots=N"));
  EXPECT_THAT(Complaint(File("a slots=2 slots=3")), HasSubstr("says slots twice for a"));
  EXPECT_THAT(Complaint(File("a slots=4 max_slots=2")), HasSubstr("gives a 4 slots and at most 2"));
  EXPECT_THAT(Complaint(File("# none\n")), HasSubstr("f names no host"));
  EXPECT_THAT(Complaint(File("a slots=99999\n\na slots=2\n")), HasSubstr("f, line 3: a adds up"));
}

TEST(HostfileTest, ReadsALineASlot) {
  EXPECT_THAT(*NodesFromLines("f", "b\na\nb\n\nb\n"), ElementsAre(N("b", 3), N("a", 1)));
  EXPECT_THAT(NodesFromLines("f", "a\nb 2\n").error().message, HasSubstr("f, line 2: 'b 2' is not one host name"));
  EXPECT_THAT(NodesFromLines("f", "\n").error().message, HasSubstr("names no host"));
}

TEST(ValueTest, WhatWasFoundIsShownShortAndPrintable) {
  EXPECT_EQ(Quoted("a\x1b[1m\n"), "'a?[1m?'");
  EXPECT_EQ(Quoted(std::string(100, 'a')), "'" + std::string(80, 'a') + "...'");
  EXPECT_THAT(Words(" a\t b\r"), ElementsAre("a", "b"));
  EXPECT_THAT(Parts("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(Parts("", ','), ElementsAre(""));
}

}  // namespace
}  // namespace belay::launcher
