/* An LD_PRELOAD library that records every change to files below one directory, in their order.

   RECORDER_LOG   the file of the recording
   RECORDER_ROOT  the absolute path of the directory

   A record is a header (struct header), a path, and data or a second path. Files are named by their
   inode number. Each call and its record are made under one lock, so the order of the records is
   the order of the calls. Calls by system call number and stdio's writes are not seen; the reader
   compares the result with the directory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct header {
  uint8_t kind;
  uint32_t path_length, data_length;
  uint64_t inode;
  int64_t offset;
} __attribute__((packed));

static int recording = -1;
static char root[PATH_MAX];
static size_t root_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("RECORDER_LOG"), *below = getenv("RECORDER_ROOT");
  if (path == NULL || below == NULL) return;
  snprintf(root, sizeof root, "%s", below);
  root_length = strlen(root);
  recording = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void stop(const char *why) {
  fprintf(stderr, "recorder: %s\n", why);
  abort();
}

#define REAL(name) ({ static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

/* `path` is below the root, or empty; what is recorded is relative to the root. */
static void record(uint8_t kind, uint64_t inode, int64_t offset, const char *path, const void *data,
                   size_t length) {
  if (path[0]) path += root_length + 1;
  struct header head = {kind, (uint32_t)strlen(path), (uint32_t)length, inode, offset};
  struct iovec parts[] = {
      {&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
  ssize_t total = (ssize_t)(sizeof head + head.path_length + length);
  if (syscall(SYS_writev, recording, parts, 3) != total) stop("the recording can't be written");
}

static int is_below(const char *path) {
  return recording >= 0 && !strncmp(path, root, root_length) && path[root_length] == '/';
}

/* The absolute path of `path` as *at() calls take it. False if it is not below the root. */
static int resolve(int directory, const char *path, char *found) {
  char link[64], base[PATH_MAX];
  if (recording < 0) return 0;
  if (path[0] == '/') {
    snprintf(found, PATH_MAX, "%s", path);
    return is_below(found);
  }
  if (directory == AT_FDCWD) {
    if (getcwd(base, sizeof base) == NULL) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
  }
  if (snprintf(found, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) stop("a path is too long");
  return is_below(found);
}

/* The inode number of a file below the root, 0 of any other. */
static uint64_t inode_of(int file) {
  char link[64], path[PATH_MAX];
  struct stat found;
  if (recording < 0 || file < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, root, root_length) || (path[root_length] != '/' && path[root_length])) return 0;
  return fstat(file, &found) ? 0 : found.st_ino;
}

static uint64_t inode_at(const char *path) {
  struct stat found;
  return lstat(path, &found) ? 0 : found.st_ino;
}

/* Run CALL under the lock; if it succeeded, run RECORD. The value is that of CALL. */
#define TOGETHER(type, call, succeeded, note) ({ \
    pthread_mutex_lock(&lock); \
    type result = (call); \
    int error = errno; \
    if (succeeded) { note; } \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    result; })

#define ON_FILE(type, call, succeeded, kind, offset, data, length) ({ \
    uint64_t inode = inode_of(file); \
    inode == 0 ? (call) \
        : TOGETHER(type, call, succeeded, record(kind, inode, offset, "", data, length)); })

ssize_t write(int file, const void *data, size_t size) {
  return ON_FILE(ssize_t, REAL(write)(file, data, size), result > 0, 'w',
                 lseek(file, 0, SEEK_CUR) - result, data, (size_t)result);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
  return ON_FILE(ssize_t, REAL(pwrite)(file, data, size, at), result > 0, 'w', at, data, (size_t)result);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
  return ON_FILE(ssize_t, REAL(pwrite64)(file, data, size, at), result > 0, 'w', at, data, (size_t)result);
}
int fsync(int file) { return ON_FILE(int, REAL(fsync)(file), result == 0, 's', 0, "", 0); }
int fdatasync(int file) { return ON_FILE(int, REAL(fdatasync)(file), result == 0, 's', 0, "", 0); }
int ftruncate(int file, off_t size) {
  return ON_FILE(int, REAL(ftruncate)(file, size), result == 0, 't', size, "", 0);
}
int ftruncate64(int file, off64_t size) {
  return ON_FILE(int, REAL(ftruncate64)(file, size), result == 0, 't', size, "", 0);
}

/* Calls that change files and that nothing recorded here uses: a recording without them would lie. */
#define REFUSED(type, name, parameters, arguments) \
  type name parameters { if (inode_of(file)) stop(#name " is not recorded"); return REAL(name) arguments; }
REFUSED(int, fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
REFUSED(int, fallocate64, (int file, int mode, off64_t at, off64_t size), (file, mode, at, size))
REFUSED(int, posix_fallocate, (int file, off_t at, off_t size), (file, at, size))
REFUSED(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
REFUSED(ssize_t, pwritev, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at))
REFUSED(ssize_t, sendfile, (int file, int from, off_t *at, size_t size), (file, from, at, size))
REFUSED(ssize_t, sendfile64, (int file, int from, off64_t *at, size_t size), (file, from, at, size))
ssize_t copy_file_range(int from, off64_t *at, int file, off64_t *to, size_t size, unsigned flags) {
  if (inode_of(file)) stop("copy_file_range is not recorded");
  return REAL(copy_file_range)(from, at, file, to, size, flags);
}

#define AT_PATH(type, call, succeeded, note) ({ \
    char path[PATH_MAX]; \
    !resolve(directory, name, path) ? (call) : TOGETHER(type, call, succeeded, note); })

static void note_opened(int file, const char *path, int flags, int existed) {
  uint64_t inode = inode_of(file);
  if (!existed) record('c', inode, 0, path, "", 0);
  else if (flags & O_TRUNC) record('t', inode, 0, "", "", 0);
}

#define OPENAT(function, directory, name, flags, mode, ...) ({ \
    char path[PATH_MAX]; \
    int file; \
    if (!((flags) & (O_CREAT | O_TRUNC)) || !resolve(directory, name, path)) { \
      file = REAL(function)(__VA_ARGS__, flags, mode); \
    } else { \
      pthread_mutex_lock(&lock); \
      int existed = inode_at(path) != 0; \
      file = REAL(function)(__VA_ARGS__, flags, mode); \
      int error = errno; \
      if (file >= 0) note_opened(file, path, flags, existed); \
      pthread_mutex_unlock(&lock); \
      errno = error; \
    } \
    file; })
#define MODE(mode, flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *name, int flags, ...) { MODE(mode, flags) return OPENAT(open, AT_FDCWD, name, flags, mode, name); }
int open64(const char *name, int flags, ...) { MODE(mode, flags) return OPENAT(open64, AT_FDCWD, name, flags, mode, name); }
int openat(int directory, const char *name, int flags, ...) {
  MODE(mode, flags) return OPENAT(openat, directory, name, flags, mode, directory, name);
}
int openat64(int directory, const char *name, int flags, ...) {
  MODE(mode, flags) return OPENAT(openat64, directory, name, flags, mode, directory, name);
}

/* stdio: only the name is recorded, for files whose bytes do not matter. */
#define FOPEN(function) \
  FILE *function(const char *name, const char *how) { \
    char path[PATH_MAX]; \
    if (how[0] == 'r' || !resolve(AT_FDCWD, name, path)) return REAL(function)(name, how); \
    pthread_mutex_lock(&lock); \
    int existed = inode_at(path) != 0; \
    FILE *stream = REAL(function)(name, how); \
    int error = errno; \
    if (stream != NULL) note_opened(fileno(stream), path, how[0] == 'w' ? O_TRUNC : 0, existed); \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return stream; \
  }
FOPEN(fopen)
FOPEN(fopen64)

#define NOTE(kind) record(kind, inode_at(path), 0, path, "", 0)
int mkdirat(int directory, const char *name, mode_t mode) {
  return AT_PATH(int, REAL(mkdirat)(directory, name, mode), result == 0, NOTE('m'));
}
int mkdir(const char *name, mode_t mode) {
  const int directory = AT_FDCWD;
  return AT_PATH(int, REAL(mkdir)(name, mode), result == 0, NOTE('m'));
}
int unlinkat(int directory, const char *name, int flags) {
  return AT_PATH(int, REAL(unlinkat)(directory, name, flags), result == 0, NOTE('u'));
}
int unlink(const char *name) {
  const int directory = AT_FDCWD;
  return AT_PATH(int, REAL(unlink)(name), result == 0, NOTE('u'));
}
int rmdir(const char *name) {
  const int directory = AT_FDCWD;
  return AT_PATH(int, REAL(rmdir)(name), result == 0, NOTE('u'));
}

#define TWO_PATHS(kind, call) ({ \
    char from[PATH_MAX], to[PATH_MAX]; \
    int first = resolve(from_directory, from_name, from), second = resolve(to_directory, to_name, to); \
    if (first != second) stop(#call " crosses the root"); \
    first ? TOGETHER(int, call, result == 0, record(kind, 0, 0, from, to + root_length + 1, strlen(to) - root_length - 1)) : (call); })
int renameat(int from_directory, const char *from_name, int to_directory, const char *to_name) {
  return TWO_PATHS('r', REAL(renameat)(from_directory, from_name, to_directory, to_name));
}
int rename(const char *from_name, const char *to_name) {
  const int from_directory = AT_FDCWD, to_directory = AT_FDCWD;
  return TWO_PATHS('r', REAL(rename)(from_name, to_name));
}
int linkat(int from_directory, const char *from_name, int to_directory, const char *to_name, int flags) {
  return TWO_PATHS('l', REAL(linkat)(from_directory, from_name, to_directory, to_name, flags));
}
int link(const char *from_name, const char *to_name) {
  const int from_directory = AT_FDCWD, to_directory = AT_FDCWD;
  return TWO_PATHS('l', REAL(link)(from_name, to_name));
}
