/* What exporters and device plugins do: load libcndev.so by hand, look every function up by name, and ask. Arguments: the library, the file with
   the names of its functions, and "fork" where children can reach the cards. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cndev.h"

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      exit(1); \
    } \
  } while (0)

static void *library;

typedef cndevRet_t (*init_fn)(int32_t);
typedef cndevRet_t (*release_fn)(void);
typedef cndevRet_t (*count_fn)(cndevCardInfo_t *);
typedef cndevRet_t (*utilisation_fn)(cndevUtilizationInfo_t *, cndevDevice_t);
typedef cndevRet_t (*memory_fn)(cndevMemoryInfoV2_t *, cndevDevice_t);
typedef const char *(*name_fn)(cndevDevice_t);

static void *symbol(const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) {
    fprintf(stderr, "%s is not there\n", name);
    exit(1);
  }
  return found;
}

/* A function behind a pointer to data, as dlsym gives it. */
#define FIND(type, variable, name) \
  type variable; \
  do { \
    void *address = symbol(name); \
    memcpy(&variable, &address, sizeof address); \
  } while (0)

static void ask(void) {
  FIND(count_fn, count, "cndevGetDeviceCount");
  FIND(utilisation_fn, utilisation, "cndevGetDeviceUtilizationInfo");
  FIND(memory_fn, memory, "cndevGetMemoryUsageV2");
  FIND(name_fn, name, "cndevGetCardNameStringByDevId");
  cndevCardInfo_t cards;
  memset(&cards, 0, sizeof cards);
  CHECK(count(&cards) == CNDEV_ERROR_UNSUPPORTED_API_VERSION);
  cards.version = CNDEV_VERSION_6;
  CHECK(count(&cards) == CNDEV_SUCCESS);
  CHECK(cards.number >= 1);
  for (int32_t device = 0; device < (int32_t)cards.number; device++) {
    cndevUtilizationInfo_t used;
    memset(&used, 0, sizeof used);
    used.version = CNDEV_VERSION_5;
    CHECK(utilisation(&used, device) == CNDEV_SUCCESS);
    CHECK(used.averageCoreUtilization >= 0 && used.averageCoreUtilization <= 100);
    cndevMemoryInfoV2_t bytes;
    CHECK(memory(&bytes, device) == CNDEV_SUCCESS);
    CHECK(bytes.physicalMemoryTotal > 20000 && bytes.globalMemory > 20000);
    CHECK(strcmp(name(device), "MLU370-X8") == 0);
  }
}

int main(int count, char **arguments) {
  CHECK(count >= 3);
  library = dlopen(arguments[1], RTLD_LAZY);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  FILE *names = fopen(arguments[2], "r");
  CHECK(names != NULL);
  char line[128];
  int found = 0;
  while (fgets(line, sizeof line, names) != NULL) {
    line[strcspn(line, "\n")] = 0;
    symbol(line);
    found++;
  }
  fclose(names);
  CHECK(found > 110);
  FIND(init_fn, init, "cndevInit");
  FIND(release_fn, end, "cndevRelease");
  CHECK(init(0) == CNDEV_SUCCESS);
  ask();
  if (count > 3) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      ask();
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ask();
  }
  CHECK(end() == CNDEV_SUCCESS);
  CHECK(end() == CNDEV_ERROR_UNINITIALIZED);
  CHECK(dlclose(library) == 0);
  puts("all as it should be");
  return 0;
}
