/* Makes the N-th operation on files below a folder fail: preloaded into a program and all that it starts.

   FAULT_PREFIX  the folder
   FAULT_COUNT   a file of 8 bytes: operations so far, of all processes
   FAULT_AT      N; 0: none fails, they are only counted
   FAULT_KIND    0 no space, 1 input/output error, 2 a write of half, 3 a write of half, then the process is killed
   FAULT_STICKY  1: all that come later fail as well */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long at = -1;
static int kind, sticky;
static char prefix[1024];
static volatile long *count;

static long number(const char *name) {
    char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void begin(void) {
    if (at >= 0) return;
    char *folder = getenv("FAULT_PREFIX"), *file = getenv("FAULT_COUNT");
    kind = number("FAULT_KIND");
    sticky = number("FAULT_STICKY");
    if (folder && file) {
        int (*open_)(const char *, int, ...) = real("open");
        void *(*mmap_)(void *, size_t, int, int, int, off_t) = real("mmap");
        int fd = open_(file, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            void *map = mmap_(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (map != MAP_FAILED) {
                count = map;
                strncpy(prefix, folder, sizeof prefix - 1);
            }
            close(fd);
        }
    }
    at = number("FAULT_AT");
}

static int below(const char *path) {
    begin();
    return count && path && !strncmp(path, prefix, strlen(prefix));
}

static int below_fd(int fd) {
    char link[64], path[1024];
    begin();
    if (!count || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int hit(void) {
    long n = __sync_add_and_fetch(count, 1);
    return at > 0 && (sticky ? n >= at : n == at);
}

static int error(void) {
    if (kind == 3) kill(getpid(), SIGKILL);
    return errno = kind == 1 ? EIO : ENOSPC;
}

#define WRITER(name, args, half, all) \
    ssize_t name args { \
        static ssize_t(*call) args; \
        if (!call) call = real(#name); \
        if (below_fd(fd) && hit()) { \
            if (kind == 2 && size > 1) return half; \
            if (kind == 3) (void)!half; \
            error(); \
            return -1; \
        } \
        return all; \
    }
WRITER(write, (int fd, const void *data, size_t size), call(fd, data, size / 2), call(fd, data, size))
WRITER(pwrite, (int fd, const void *data, size_t size, off_t to), call(fd, data, size / 2, to), call(fd, data, size, to))
WRITER(pwrite64, (int fd, const void *data, size_t size, off_t to), call(fd, data, size / 2, to), call(fd, data, size, to))
WRITER(writev, (int fd, const struct iovec *data, int size), call(fd, data, size / 2), call(fd, data, size))

#define ON_FD(name, result, args, all, failed) \
    result name args { \
        static result(*call) args; \
        if (!call) call = real(#name); \
        if (below_fd(fd) && hit()) { \
            int code = error(); \
            (void)code; \
            return failed; \
        } \
        return all; \
    }
ON_FD(fsync, int, (int fd), call(fd), -1)
ON_FD(fdatasync, int, (int fd), call(fd), -1)
ON_FD(ftruncate, int, (int fd, off_t size), call(fd, size), -1)
ON_FD(ftruncate64, int, (int fd, off_t size), call(fd, size), -1)
ON_FD(posix_fallocate, int, (int fd, off_t from, off_t size), call(fd, from, size), code)
ON_FD(posix_fallocate64, int, (int fd, off_t from, off_t size), call(fd, from, size), code)
ON_FD(mmap, void *, (void *place, size_t size, int how, int flags, int fd, off_t from),
      call(place, size, how, flags, fd, from), MAP_FAILED)
ON_FD(mmap64, void *, (void *place, size_t size, int how, int flags, int fd, off_t from),
      call(place, size, how, flags, fd, from), MAP_FAILED)

#define ON_PATH(name, args, all) \
    int name args { \
        static int(*call) args; \
        if (!call) call = real(#name); \
        if (below(path) && hit()) { \
            error(); \
            return -1; \
        } \
        return all; \
    }
ON_PATH(rename, (const char *path, const char *to), call(path, to))
ON_PATH(link, (const char *path, const char *to), call(path, to))
ON_PATH(mkdir, (const char *path, mode_t mode), call(path, mode))
ON_PATH(truncate, (const char *path, off_t size), call(path, size))
ON_PATH(truncate64, (const char *path, off_t size), call(path, size))

#define OPENER(name) \
    int name(const char *path, int flags, ...) { \
        static int (*call)(const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = va_arg(rest, int); \
        va_end(rest); \
        if (!call) call = real(#name); \
        if ((flags & O_CREAT) && below(path) && hit()) { \
            error(); \
            return -1; \
        } \
        return call(path, flags, mode); \
    }
OPENER(open)
OPENER(open64)
