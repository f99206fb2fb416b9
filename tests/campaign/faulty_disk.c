/* A disk that fails once: the nth operation below a folder returns an error, and does nothing.

   Preloaded by tests/campaign/forked.py, which arms it through ctypes. Operations that change
   something are counted always; opening for reading only with `reads`. Writes of C's buffered
   streams do not pass here, because libc calls its own write for them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long at = -1, seen = 0;
static int error_number = 0, with_reads = 0;
static char below[PATH_MAX] = "", failed[PATH_MAX] = "";

void faulty_disk_arm(long nth, int number, int reads, const char *folder) {
    at = nth, seen = 0, error_number = number, with_reads = reads, failed[0] = 0;
    snprintf(below, sizeof below, "%s", folder);
}
long faulty_disk_seen(void) { return seen; }
const char *faulty_disk_failed(void) { return failed; }

static int fails(const char *what, const char *path) {
    if (!below[0] || strncmp(path, below, strlen(below)) != 0) return 0;
    if (++seen != at) return 0;
    snprintf(failed, sizeof failed, "%s %s", what, path);
    errno = error_number;
    return 1;
}

static int fails_at(const char *what, int folder, const char *path) {
    char whole[2 * PATH_MAX], base[PATH_MAX] = "", link[64];
    if (!below[0] || path == NULL) return 0;
    if (path[0] == '/') return fails(what, path);
    if (folder == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return fails(what, whole);
}

static int fails_on(const char *what, int file) {
    char link[64], path[PATH_MAX];
    if (!below[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(what, path);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name);

static int counts(int flags) {
    return with_reads || (flags & (O_WRONLY | O_RDWR | O_CREAT));
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...) \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (counts(flags) && fails_at("open", AT_FDCWD, path)) return -1; \
        return real(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...) \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (counts(flags) && fails_at("open", folder, path)) return -1; \
        return real(folder, path, flags, mode); \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t)
    return fails_on("write", file) ? -1 : real(file, data, size);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int)
    return fails_on("writev", file) ? -1 : real(file, parts, count);
}
#define PWRITE(name) \
    ssize_t name(int file, const void *data, size_t size, off_t place) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t) \
        return fails_on("pwrite", file) ? -1 : real(file, data, size, place); \
    }
PWRITE(pwrite) PWRITE(pwrite64)
#define TRUNCATE(name) \
    int name(int file, off_t size) { \
        REAL(int, #name, int, off_t) \
        return fails_on("truncate", file) ? -1 : real(file, size); \
    }
TRUNCATE(ftruncate) TRUNCATE(ftruncate64)
int fsync(int file) {
    REAL(int, "fsync", int)
    return fails_on("fsync", file) ? -1 : real(file);
}
int fdatasync(int file) {
    REAL(int, "fdatasync", int)
    return fails_on("fsync", file) ? -1 : real(file);
}
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *)
    return fails_at("rename", AT_FDCWD, to) ? -1 : real(from, to);
}
int renameat(int old, const char *from, int new, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *)
    return fails_at("rename", new, to) ? -1 : real(old, from, new, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t)
    return fails_at("mkdir", AT_FDCWD, path) ? -1 : real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t)
    return fails_at("mkdir", folder, path) ? -1 : real(folder, path, mode);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *)
    return fails_at("unlink", AT_FDCWD, path) ? -1 : real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int)
    return fails_at("unlink", folder, path) ? -1 : real(folder, path, flags);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *)
    return fails_at("rmdir", AT_FDCWD, path) ? -1 : real(path);
}
