/*
 * A disk that can lose power, fail, fill up and be slow, for one process: loaded with LD_PRELOAD into the agent. It
 * watches the files below DISK_SHIM_DIR. What a file or directory held at its last sync is kept in DISK_SHIM_STABLE
 * (`f-<inode>` the bytes, `d-<inode>` the names), so that a test can put that state back after it has killed the
 * process. What to do wrong is read at each call from DISK_SHIM_CONTROL, which the test writes and this maps.
 *
 * Seen with strace: lmdb-js writes by pwrite and writev and syncs by fdatasync, with its meta page through an O_DSYNC
 * descriptor; libuv goes through the same functions of the C library. Neither maps a file for writing but lock.mdb.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The words of the control file; disk-shim.ts has the same. */
enum { SYNC_ERRNO, SYNC_DELAY_MS, SYNC_LIES, WRITE_ERRNO, READ_ERRNO, SYNCS, WORDS = 16 };
enum { WATCHED = 1, SYNCHRONOUS = 2, DIRECTORY = 4, MAX_FDS = 4096 };

struct range {
  ino_t inode;
  off_t from, to;
  struct range *next;
};

static volatile int32_t *control;
static char watched_dir[4096], stable_dir[4096];
static unsigned char kind_of[MAX_FDS];
static struct range *unsynced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void start(void) {
  const char *dir = getenv("DISK_SHIM_DIR"), *stable = getenv("DISK_SHIM_STABLE"), *path = getenv("DISK_SHIM_CONTROL");
  if (!dir || !stable || !path) return;
  int fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, WORDS * sizeof(int32_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REAL(close)(fd);
  if (map == MAP_FAILED) return;
  snprintf(watched_dir, sizeof watched_dir, "%s", dir);
  snprintf(stable_dir, sizeof stable_dir, "%s", stable);
  control = map;
  /* Workers are other processes with disks of their own. */
  unsetenv("LD_PRELOAD");
}

static int kind(int fd) { return control && fd >= 0 && fd < MAX_FDS ? kind_of[fd] : 0; }

static void stable_path(char *to, size_t size, char type, ino_t inode) {
  snprintf(to, size, "%s/%c-%llu", stable_dir, type, (unsigned long long)inode);
}

/* Copies a range of a file to what is stable of it. */
static void settle_range(int fd, ino_t inode, off_t from, off_t to) {
  char path[4200], buffer[65536];
  stable_path(path, sizeof path, 'f', inode);
  int out = REAL(open64)(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (out < 0) return;
  char self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  /* The descriptor itself may be open for writing only. */
  int in = REAL(open64)(self, O_RDONLY | O_CLOEXEC);
  while (in >= 0 && from < to) {
    size_t want = (size_t)(to - from) < sizeof buffer ? (size_t)(to - from) : sizeof buffer;
    ssize_t got = REAL(pread64)(in, buffer, want, from);
    if (got <= 0) break;
    if (REAL(pwrite64)(out, buffer, (size_t)got, from) != got) break;
    from += got;
  }
  if (in >= 0) REAL(close)(in);
  REAL(close)(out);
}

static void settle_file(int fd, ino_t inode, off_t size) {
  char path[4200];
  pthread_mutex_lock(&lock);
  for (struct range **at = &unsynced; *at;) {
    struct range *each = *at;
    if (each->inode != inode) {
      at = &each->next;
      continue;
    }
    settle_range(fd, inode, each->from, each->to);
    *at = each->next;
    free(each);
  }
  settle_range(fd, inode, 0, 0);
  stable_path(path, sizeof path, 'f', inode);
  if (truncate64(path, size)) { /* The test would find it missing. */
  }
  pthread_mutex_unlock(&lock);
}

static void settle_directory(int fd, ino_t inode) {
  char path[4200], temporary[4300], self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  stable_path(path, sizeof path, 'd', inode);
  snprintf(temporary, sizeof temporary, "%s.new", path);
  pthread_mutex_lock(&lock);
  DIR *dir = opendir(self);
  FILE *out = fopen(temporary, "w");
  for (struct dirent *entry; dir && out && (entry = readdir(dir));)
    fprintf(out, "%llu %s\n", (unsigned long long)entry->d_ino, entry->d_name);
  if (out) fclose(out);
  if (dir) closedir(dir);
  rename(temporary, path);
  pthread_mutex_unlock(&lock);
}

static void settle(int fd) {
  struct stat64 found;
  if (fstat64(fd, &found)) return;
  if (S_ISDIR(found.st_mode)) settle_directory(fd, found.st_ino);
  else settle_file(fd, found.st_ino, found.st_size);
}

static void written(int fd, off_t from, ssize_t count) {
  struct stat64 found;
  if (count <= 0 || fstat64(fd, &found)) return;
  if (kind(fd) & SYNCHRONOUS) {
    pthread_mutex_lock(&lock);
    if (!control[SYNC_LIES]) settle_range(fd, found.st_ino, from, from + count);
    pthread_mutex_unlock(&lock);
    return;
  }
  struct range *range = malloc(sizeof *range);
  *range = (struct range){found.st_ino, from, from + count, NULL};
  pthread_mutex_lock(&lock);
  range->next = unsynced;
  unsynced = range;
  pthread_mutex_unlock(&lock);
}

static void delay(void) {
  long wait = control[SYNC_DELAY_MS];
  struct timespec time = {wait / 1000, wait % 1000 * 1000000};
  if (wait > 0) nanosleep(&time, NULL);
}

/* Whether a write to this descriptor is to fail, with errno set; one that is synchronous is as slow as a sync. */
static int refuses_write(int fd) {
  if (!kind(fd)) return 0;
  if (kind(fd) & SYNCHRONOUS) {
    delay();
    if (control[SYNC_ERRNO]) {
      errno = control[SYNC_ERRNO];
      return 1;
    }
  }
  errno = control[WRITE_ERRNO];
  return errno != 0;
}

static int refuses_read(int fd) {
  if (!(kind(fd) & WATCHED) || (kind(fd) & DIRECTORY)) return 0;
  errno = control[READ_ERRNO];
  return errno != 0;
}

static int opened(int fd, const char *path, int flags, int is_new) {
  if (!control || fd < 0 || fd >= MAX_FDS) return fd;
  kind_of[fd] = 0;
  if (strncmp(path, watched_dir, strlen(watched_dir))) return fd;
  struct stat64 found;
  if (fstat64(fd, &found)) return fd;
  kind_of[fd] = WATCHED | (flags & O_DSYNC ? SYNCHRONOUS : 0) | (S_ISDIR(found.st_mode) ? DIRECTORY : 0);
  if (is_new) {
    /* The number may have been another file's. */
    char stable[4200];
    stable_path(stable, sizeof stable, 'f', found.st_ino);
    REAL(unlink)(stable);
  }
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
  va_end(list);
  int is_new = control && flags & O_CREAT && access(path, F_OK) != 0;
  if (is_new && control[WRITE_ERRNO] && !strncmp(path, watched_dir, strlen(watched_dir))) {
    errno = control[WRITE_ERRNO];
    return -1;
  }
  return opened(REAL(open64)(path, flags, mode), path, flags, is_new);
}

int open(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
  va_end(list);
  return open64(path, flags, mode);
}

int close(int fd) {
  if (fd >= 0 && fd < MAX_FDS) kind_of[fd] = 0;
  return REAL(close)(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  if (refuses_write(fd)) return -1;
  ssize_t done = REAL(pwrite64)(fd, bytes, count, offset);
  if (kind(fd)) written(fd, offset, done);
  return done;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  if (refuses_write(fd)) return -1;
  ssize_t done = REAL(pwritev64)(fd, parts, count, offset);
  if (kind(fd)) written(fd, offset, done);
  return done;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  if (!kind(fd)) return REAL(write)(fd, bytes, count);
  if (refuses_write(fd)) return -1;
  off_t offset = lseek(fd, 0, SEEK_CUR);
  ssize_t done = REAL(write)(fd, bytes, count);
  written(fd, offset, done);
  return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!kind(fd)) return REAL(writev)(fd, parts, count);
  if (refuses_write(fd)) return -1;
  off_t offset = lseek(fd, 0, SEEK_CUR);
  ssize_t done = REAL(writev)(fd, parts, count);
  written(fd, offset, done);
  return done;
}

ssize_t read(int fd, void *bytes, size_t count) { return refuses_read(fd) ? -1 : REAL(read)(fd, bytes, count); }

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  return refuses_read(fd) ? -1 : REAL(pread64)(fd, bytes, count, offset);
}

static int synced(int fd, int (*sync)(int)) {
  if (!kind(fd)) return sync(fd);
  __atomic_fetch_add(&control[SYNCS], 1, __ATOMIC_SEQ_CST);
  delay();
  if (control[SYNC_ERRNO]) {
    errno = control[SYNC_ERRNO];
    return -1;
  }
  if (!control[SYNC_LIES]) settle(fd);
  return 0;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }
