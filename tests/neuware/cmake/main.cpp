// Counts the devices, through the address of a function as bindings take it.
#include <cnrt.h>

#include <cstdio>

static constexpr auto get_device_count = cnrtGetDeviceCount;

int main() {
  unsigned count = 0;
  if (get_device_count(&count) != cnrtSuccess) {
    return 1;
  }
  std::printf("%u devices\n", count);
  return 0;
}
