// What communication libraries and runtimes do with the runtime interface: the addresses of functions in tables and constant expressions, events
// without times, host functions between copies, devices by their PCI addresses.
#include <cncl.h>
#include <cnrt.h>

#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>

#include "check.h"

// Bindings that know a device at compile time: the declared types are part of the contract.
struct Runtime {
  static constexpr auto SetDevice = &cnrtSetDevice;
  static constexpr auto GetDevice = &cnrtGetDevice;
  static constexpr auto GetDeviceCount = &cnrtGetDeviceCount;
  static constexpr auto Synchronize = &cnrtSyncDevice;
  static constexpr auto Malloc = &cnrtMalloc;
  static constexpr auto Free = &cnrtFree;
  static constexpr auto Memset = &cnrtMemset;
  static constexpr auto Memcpy = &cnrtMemcpy;
  static constexpr auto MemcpyAsync = &cnrtMemcpyAsync_V2;
};
static_assert(std::is_same<decltype(&cnrtSetDevice), cnrtRet_t (*)(int)>::value, "");
static_assert(std::is_same<decltype(&cnrtGetDevice), cnrtRet_t (*)(int *)>::value, "");
static_assert(std::is_same<decltype(&cnrtGetDeviceCount), cnrtRet_t (*)(unsigned int *)>::value, "");
static_assert(std::is_same<decltype(&cnrtSyncDevice), cnrtRet_t (*)()>::value, "");
static_assert(std::is_same<decltype(&cnrtMalloc), cnrtRet_t (*)(void **, std::size_t)>::value, "");
static_assert(std::is_same<decltype(&cnrtFree), cnrtRet_t (*)(void *)>::value, "");
static_assert(std::is_same<decltype(&cnrtMemset), cnrtRet_t (*)(void *, int, std::size_t)>::value, "");
static_assert(
    std::is_same<decltype(&cnrtMemcpy), cnrtRet_t (*)(void *, void *, std::size_t, cnrtMemTransDir_t)>::value, "");
static_assert(std::is_same<decltype(&cnrtMemcpyAsync_V2),
                           cnrtRet_t (*)(void *, void *, std::size_t, cnrtQueue_t, cnrtMemTransDir_t)>::value,
              "");
static_assert(std::is_same<decltype(&cnclInitComms), cnclResult_t (*)(cnclComm_t *, int, const int *, const int *, int,
                                                                      const cnclCliqueId_t)>::value,
              "");

// Wrappers of handles, as such libraries have them.
struct Stream {
  cnrtQueue_t base;
};
struct Event {
  cnrtNotifier_t base;
};

// A device adaptor: a table of functions.
struct Adaptor {
  cnrtRet_t (*set)(int);
  cnrtRet_t (*copy)(void *, void *, std::size_t, cnrtQueue_t, cnrtMemTransDir_t);
  cnrtRet_t (*launch)(cnrtQueue_t, void (*)(void *), void *);
  cnrtRet_t (*wait)(cnrtNotifier_t, cnrtQueue_t, unsigned int);
};
static const Adaptor adaptor = {cnrtSetDevice, cnrtMemcpyAsync_V2, cnrtInvokeHostFunc, cnrtQueueWaitNotifier};

static const std::map<int, cnrtMemTransDir_t> directions = {
    {0, cnrtMemcpyHostToDev}, {1, cnrtMemcpyDevToHost}, {2, cnrtMemcpyDevToDev}};
static const std::map<int, cnclDataType_t> types = {{0, cnclInt8},    {1, cnclUint8},    {2, cnclInt},
                                                    {3, cnclInt32},   {4, cnclInt64},    {5, cnclHalf},
                                                    {6, cnclFloat16}, {7, cnclBfloat16}, {8, cnclFloat32},
                                                    {9, cnclFloat},   {10, cnclChar}};
static const std::map<cnclResult_t, int> results = {
    {CNCL_RET_SUCCESS, 0}, {CNCL_RET_ERR_UNSUPPORTED, 1}, {CNCL_RET_ASYNC_ERROR, 2}};

static void identities() {
  unsigned count = 0;
  OK(Runtime::GetDeviceCount(&count));
  CHECK(count > 0);
  for (int device = 0; device < static_cast<int>(count); device++) {
    OK(Runtime::SetDevice(device));
    int current = -1;
    OK(Runtime::GetDevice(&current));
    CHECK(current == device);
    cnrtDeviceProp_t prop;
    OK(cnrtGetDeviceProperties(&prop, device));
    CHECK(std::strlen(prop.name) > 0);
    char bus[16];
    OK(cnrtDeviceGetPCIBusId(bus, sizeof bus, device));
    char expected[32];
    std::snprintf(expected, sizeof expected, "%04x:%02x:%02x.", static_cast<unsigned>(prop.pciDomainID),
                  static_cast<unsigned>(prop.pciBusID), static_cast<unsigned>(prop.pciDeviceID));
    CHECK(std::strncmp(bus, expected, std::strlen(expected)) == 0);
    int found = -1;
    OK(cnrtDeviceGetByPCIBusId(&found, bus));
    CHECK(found == device);
  }
}

struct Gate {
  std::atomic<bool> entered{false}, open{false};
};

static void pass(void *argument) {
  Gate *gate = static_cast<Gate *>(argument);
  gate->entered = true;
  while (!gate->open) {
  }
}

// An event is not ready while a host function holds its queue; another queue waits for it on the device.
static void events() {
  constexpr std::size_t bytes = 1 << 16;
  OK(adaptor.set(0));
  Stream first{}, second{};
  Event event{};
  OK(cnrtQueueCreate(&first.base));
  OK(cnrtQueueCreate(&second.base));
  OK(cnrtNotifierCreateWithFlags(&event.base, CNRT_NOTIFIER_DISABLE_TIMING_ALL));
  void *host = nullptr, *device = nullptr, *other = nullptr;
  OK(cnrtHostMalloc(&host, bytes));
  OK(Runtime::Malloc(&device, bytes));
  OK(Runtime::Malloc(&other, bytes));
  OK(Runtime::Memset(other, 0, bytes));
  std::memset(host, 0x37, bytes);

  Gate gate;
  OK(adaptor.launch(first.base, pass, &gate));
  OK(adaptor.copy(device, host, bytes, first.base, directions.at(0)));
  OK(cnrtPlaceNotifierWithFlags(event.base, first.base, CNRT_NOTIFIER_PLACE_DEFAULT));
  OK(adaptor.wait(event.base, second.base, CNRT_NOTIFIER_WAIT_DEFAULT));
  OK(adaptor.copy(other, device, bytes, second.base, directions.at(2)));
  while (!gate.entered) {
  }
  GIVES(cnrtErrorNotReady, cnrtQueueQuery(first.base));
  GIVES(cnrtErrorNotReady, cnrtQueueQuery(second.base));
  GIVES(cnrtErrorNotReady, cnrtQueryNotifier(event.base));
  gate.open = true;
  OK(cnrtWaitNotifier(event.base));
  OK(cnrtQueryNotifier(event.base));
  OK(cnrtQueueSync(second.base));
  OK(cnrtQueueQuery(first.base));
  std::memset(host, 0, bytes);
  OK(adaptor.copy(host, other, bytes, second.base, directions.at(1)));
  OK(Runtime::Synchronize());
  for (std::size_t i = 0; i < bytes; i++) CHECK(static_cast<char *>(host)[i] == 0x37);
  // An event without times has none.
  float time = 0;
  CHECK(cnrtNotifierElapsedTime(event.base, event.base, &time) != cnrtSuccess);

  OK(cnrtNotifierDestroy(event.base));
  OK(cnrtQueueDestroy(first.base));
  OK(cnrtQueueDestroy(second.base));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueQuery(first.base));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueryNotifier(event.base));
  OK(cnrtFreeHost(host));
  OK(Runtime::Free(device));
  OK(Runtime::Free(other));
}

// One rank by itself, in each type.
static void alone() {
  int device = 0, rank = 0;
  cnclCliqueId id;
  cnclComm_t comm = nullptr;
  OK(cnclGetCliqueId(&id));
  CHECK(results.at(cnclInitComms(&comm, 1, &device, &rank, 1, &id)) == 0);
  void *memory = nullptr;
  OK(Runtime::Malloc(&memory, 1024));
  for (const auto &type : types) {
    OK(cnclAllReduce(memory, memory, 16, type.second, cnclSum, comm, nullptr));
    OK(cnclGroupStart());
    OK(cnclSend(memory, 16, type.second, 0, comm, nullptr));
    OK(cnclRecv(static_cast<char *>(memory) + 512, 16, type.second, 0, comm, nullptr));
    OK(cnclGroupEnd());
  }
  OK(Runtime::Synchronize());
  OK(cnclGetCommAsyncError(comm));
  OK(cnclDestroyComms(&comm, 1));
  OK(Runtime::Free(memory));
}

int main() {
  identities();
  events();
  alone();
  std::printf("all as it should be\n");
  return 0;
}
