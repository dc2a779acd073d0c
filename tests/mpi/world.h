// What the tests of these programs share: every test runs on all ranks of one world at once.
//
// A test must make the same collective calls on every rank whatever fails, so it uses EXPECT, never ASSERT, between
// them.
#pragma once

#include "belay/session.h"

namespace belay::tests {

Session& World();  // made by main

}  // namespace belay::tests
