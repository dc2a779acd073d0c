// libbelay.so is made of static libraries; CMake wants one source of its own.
