/* A monitor over libcndev: `monitor DEVICE` prints what it says of a device, a key and a value a line; `monitor wait MS` waits for an event of
   any device and prints it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cndev.h"

/* A structure whose version is the newest. */
#define NEW(type, variable) \
  type variable; \
  memset(&variable, 0, sizeof variable); \
  variable.version = CNDEV_VERSION_6

static void show(const char *key, long long value) { printf("%s %lld\n", key, value); }

static void memory_and_errors(cndevDevice_t device) {
  cndevMemoryInfoV2_t memory;
  OK(cndevGetMemoryUsageV2(&memory, device));
  show("memory.total", memory.physicalMemoryTotal);
  show("memory.used", memory.physicalMemoryUsed);
  NEW(cndevMemEccCounter_t, errors);
  OK(cndevGetMemEccCounter(&errors, device));
  show("ecc.corrected", errors.volatileDramEccSbeCounter);
  show("ecc.uncorrected", errors.volatileDramEccDbeCounter);
  show("ecc.corrected.total", (long long)errors.aggregateDramEccSbeCounter);
  show("ecc.uncorrected.total", (long long)errors.aggregateDramEccDbeCounter);
  NEW(cndevRetiredPageInfo_t, pages);
  pages.cause = CNDEV_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR;
  OK(cndevGetRetiredPages(&pages, device));
  show("retired.uncorrected", pages.pageCount);
  NEW(cndevRepairStatus_t, repair);
  OK(cndevGetRepairStatus(&repair, device));
  show("retired.pending", repair.isRetirePending);
  NEW(cndevEccMode_t, now);
  NEW(cndevEccMode_t, next);
  OK(cndevGetEccMode(&now, &next, device));
  show("ecc.mode", now.mode);
  show("ecc.mode.pending", next.mode);
  NEW(cndevCardHealthState_t, health);
  OK(cndevGetCardHealthState(&health, device));
  show("health", health.health);
}

static void heat_and_power(cndevDevice_t device) {
  NEW(cndevTemperatureInfo_t, heat);
  OK(cndevGetTemperatureInfo(&heat, device));
  show("temperature.chip", heat.chip);
  show("temperature.board", heat.board);
  show("temperature.memory", heat.memory);
  cndevDevicePowerInfo_t power;
  OK(cndevGetDevicePowerInfo(&power, device));
  show("power", power.usage);
  show("power.cap", power.cap);
  NEW(cndevFrequencyInfo_t, clocks);
  OK(cndevGetFrequencyInfo(&clocks, device));
  show("clock", clocks.boardFreq);
  NEW(cndevComputeMode_t, mode);
  OK(cndevGetComputeMode(&mode, device));
  show("mode", mode.mode);
}

static void work(cndevDevice_t device) {
  NEW(cndevUtilizationInfo_t, used);
  OK(cndevGetDeviceUtilizationInfo(&used, device));
  show("utilisation", used.averageCoreUtilization);
  show("utilisation.core15", used.coreUtilization[15]);
  cndevPCIethroughputV2_t bus;
  OK(cndevGetPCIethroughputV2(&bus, device));
  show("pcie.read", bus.pcieReadTotal);
  show("pcie.write", bus.pcieWriteTotal);
  uint32_t count = 64;
  cndevProcessInfo_t processes[64];
  memset(processes, 0, sizeof processes);
  processes[0].version = CNDEV_VERSION_6;
  OK(cndevGetProcessInfo(&count, processes, device));
  for (uint32_t i = 0; i < count; i++)
    printf("process.%u %llu\n", processes[i].pid, (unsigned long long)processes[i].physicalMemoryUsed);
  unsigned long long read = 0, written = 0;
  int32_t ports = cndevGetMLULinkPortNumber(device);
  for (int32_t port = 0; port < ports; port++) {
    NEW(cndevMLULinkCounter_t, counter);
    OK(cndevGetMLULinkCounter(&counter, device, port));
    read += counter.cntrReadByte;
    written += counter.cntrWriteByte;
  }
  show("links.read", (long long)read);
  show("links.written", (long long)written);
}

static void wait_for_event(int32_t limit) {
  NEW(cndevCardInfo_t, cards);
  OK(cndevGetDeviceCount(&cards));
  cndevEventHandle events;
  OK(cndevEventHandleCreate(&events));
  for (cndevDevice_t device = 0; device < (cndevDevice_t)cards.number; device++)
    OK(cndevRegisterEvents(events, cndevEventTypeXidError, device));
  puts("waiting");
  fflush(stdout);
  cndevEventData_t event;
  memset(&event, 0, sizeof event);
  event.version = CNDEV_VERSION_6;
  cndevRet_t code = cndevEventWait(events, &event, limit);
  if (code == CNDEV_SUCCESS)
    printf("device %d xid %llu\n", event.device, (unsigned long long)event.eventData);
  else
    printf("%s\n", cndevGetErrorString(code));
  OK(cndevEventHandleDestroy(events));
}

int main(int count, char **arguments) {
  CHECK(count >= 2);
  OK(cndevInit(0));
  if (strcmp(arguments[1], "wait") == 0) {
    CHECK(count == 3);
    wait_for_event(atoi(arguments[2]));
  } else {
    cndevDevice_t device;
    OK(cndevGetDeviceHandleByIndex(atoi(arguments[1]), &device));
    memory_and_errors(device);
    heat_and_power(device);
    work(device);
  }
  OK(cndevRelease());
  return 0;
}
