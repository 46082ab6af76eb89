/* Fails calls of a process below one folder, and moves its clock. Built and steered by faults.py.

   LD_PRELOAD puts these functions before those of libc, for Python and SQLite alike. What shall fail stands in a
   file that all processes map: struct control, which faults.py knows too. Without the variables FAULTS_CONTROL
   and FAULTS_FOLDER nothing is changed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t is_armed;
    int64_t calls;    /* a bit for each of enum call */
    int64_t error;    /* an errno; 0: a write of half of the bytes, and ENOSPC for those after it */
    int64_t nth;      /* the first call that fails, from 1 */
    int64_t for_good; /* whether all after it fail, too */
    int64_t count;    /* calls since it was armed */
    int64_t injected; /* those of them that failed */
    int64_t clock_ns; /* added to the time of day */
};

/* In the order of CALLS in faults.py. */
enum call { OPEN, READ, WRITE, SYNC, RENAME, LINK, UNLINK, MKDIR, TRUNCATE, STAT, LIST, LOCK, CHMOD, SPACE };

static struct control *control;
static char folder[PATH_MAX];
static size_t folder_length;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTS_CONTROL"), *below = getenv("FAULTS_FOLDER");
    if (!name || !below || strlen(below) >= sizeof folder)
        return;
    strcpy(folder, below);
    folder_length = strlen(folder);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int number = real(name, O_RDWR | O_CLOEXEC);
    if (number < 0)
        return;
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, number, 0);
    if (found != MAP_FAILED)
        control = found;
    close(number);
}

static int is_below(const char *path)
{
    return path && !strncmp(path, folder, folder_length) && (!path[folder_length] || path[folder_length] == '/');
}

static int is_number_below(int number)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_below(path);
}

static int is_armed(enum call call)
{
    return control && __atomic_load_n(&control->is_armed, __ATOMIC_ACQUIRE) && control->calls >> call & 1;
}

/* Whether this call fails: it is one that counts, and its turn. errno is set then. */
static int is_next(void)
{
    int64_t place = __atomic_add_fetch(&control->count, 1, __ATOMIC_ACQ_REL);
    if (place != control->nth && !(control->for_good && place > control->nth))
        return 0;
    __atomic_add_fetch(&control->injected, 1, __ATOMIC_ACQ_REL);
    errno = control->error || place == control->nth ? (int)control->error : ENOSPC;
    return 1;
}

static int fails_at(enum call call, const char *path)
{
    return is_armed(call) && is_below(path) && is_next();
}

static int fails(enum call call, int number)
{
    if (!is_armed(call))
        return 0;
    int before = errno, below = is_number_below(number);
    errno = before;
    return below && is_next();
}

static int fails_in(enum call call, int parent, const char *path)
{
    if (!path || *path == '/' || parent == AT_FDCWD)
        return fails_at(call, path);
    return fails(call, parent);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define BY_PATH(type, wrong, call, name, path, parameters, arguments) \
    type name parameters { REAL(name); return fails_at(call, path) ? wrong : real arguments; }
#define BY_NUMBER(type, wrong, call, name, number, parameters, arguments) \
    type name parameters { REAL(name); return fails(call, number) ? wrong : real arguments; }
#define BY_PARENT(type, wrong, call, name, parent, path, parameters, arguments) \
    type name parameters { REAL(name); return fails_in(call, parent, path) ? wrong : real arguments; }
#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return fails_at(OPEN, path) ? -1 : real(path, flags, mode); \
    }
#define OPENS_AT(name) \
    int name(int parent, const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return fails_in(OPEN, parent, path) ? -1 : real(parent, path, flags, mode); \
    }
/* Half of the bytes, as the last write of a disk that becomes full; of one byte, all. */
#define WRITES(name, more, rest) \
    ssize_t name(int number, const void *data, size_t length more) \
    { \
        REAL(name); \
        if (fails(WRITE, number)) { \
            if (errno) \
                return -1; \
            length = length > 1 ? length / 2 : length; \
        } \
        return real(number, data, length rest); \
    }
#define COMMA ,

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
BY_NUMBER(ssize_t, -1, READ, read, number, (int number, void *data, size_t length), (number, data, length))
BY_NUMBER(ssize_t, -1, READ, pread, number, (int number, void *data, size_t length, off_t at),
          (number, data, length, at))
BY_NUMBER(ssize_t, -1, READ, pread64, number, (int number, void *data, size_t length, off64_t at),
          (number, data, length, at))
BY_NUMBER(ssize_t, -1, READ, readv, number, (int number, const struct iovec *parts, int count),
          (number, parts, count))
BY_NUMBER(ssize_t, -1, READ, sendfile, from, (int to, int from, off_t *at, size_t length), (to, from, at, length))
BY_NUMBER(ssize_t, -1, READ, sendfile64, from, (int to, int from, off64_t *at, size_t length),
          (to, from, at, length))
WRITES(write, , )
WRITES(pwrite, COMMA off_t at, COMMA at)
WRITES(pwrite64, COMMA off64_t at, COMMA at)
BY_NUMBER(int, -1, SYNC, fsync, number, (int number), (number))
BY_NUMBER(int, -1, SYNC, fdatasync, number, (int number), (number))
BY_PATH(int, -1, RENAME, rename, to, (const char *from, const char *to), (from, to))
BY_PARENT(int, -1, RENAME, renameat, parent, to, (int old, const char *from, int parent, const char *to),
          (old, from, parent, to))
BY_PARENT(int, -1, RENAME, renameat2, parent, to,
          (int old, const char *from, int parent, const char *to, unsigned int flags),
          (old, from, parent, to, flags))
BY_PATH(int, -1, LINK, link, to, (const char *from, const char *to), (from, to))
BY_PARENT(int, -1, LINK, linkat, parent, to, (int old, const char *from, int parent, const char *to, int flags),
          (old, from, parent, to, flags))
BY_PATH(int, -1, UNLINK, unlink, path, (const char *path), (path))
BY_PARENT(int, -1, UNLINK, unlinkat, parent, path, (int parent, const char *path, int flags),
          (parent, path, flags))
BY_PATH(int, -1, UNLINK, rmdir, path, (const char *path), (path))
BY_PATH(int, -1, MKDIR, mkdir, path, (const char *path, mode_t mode), (path, mode))
BY_PARENT(int, -1, MKDIR, mkdirat, parent, path, (int parent, const char *path, mode_t mode),
          (parent, path, mode))
BY_NUMBER(int, -1, TRUNCATE, ftruncate, number, (int number, off_t length), (number, length))
BY_NUMBER(int, -1, TRUNCATE, ftruncate64, number, (int number, off64_t length), (number, length))
BY_PATH(int, -1, STAT, stat, path, (const char *path, struct stat *found), (path, found))
BY_PATH(int, -1, STAT, stat64, path, (const char *path, struct stat64 *found), (path, found))
BY_PATH(int, -1, STAT, lstat, path, (const char *path, struct stat *found), (path, found))
BY_PATH(int, -1, STAT, lstat64, path, (const char *path, struct stat64 *found), (path, found))
BY_NUMBER(int, -1, STAT, fstat, number, (int number, struct stat *found), (number, found))
BY_NUMBER(int, -1, STAT, fstat64, number, (int number, struct stat64 *found), (number, found))
BY_PARENT(int, -1, STAT, fstatat, parent, path, (int parent, const char *path, struct stat *found, int flags),
          (parent, path, found, flags))
BY_PARENT(int, -1, STAT, fstatat64, parent, path,
          (int parent, const char *path, struct stat64 *found, int flags), (parent, path, found, flags))
BY_PATH(DIR *, NULL, LIST, opendir, path, (const char *path), (path))
BY_NUMBER(DIR *, NULL, LIST, fdopendir, number, (int number), (number))
/* Locks are refused, not their release, which no disk does. EACCES would say that somebody else has the lock
   (POSIX), and be waited for. */
static int lock_fails(int number)
{
    if (!fails(LOCK, number))
        return 0;
    if (errno == EACCES)
        errno = ENOLCK;
    return 1;
}

int flock(int number, int operation)
{
    REAL(flock);
    return !(operation & LOCK_UN) && lock_fails(number) ? -1 : real(number, operation);
}

BY_PATH(int, -1, CHMOD, chmod, path, (const char *path, mode_t mode), (path, mode))
BY_NUMBER(int, -1, CHMOD, fchmod, number, (int number, mode_t mode), (number, mode))
BY_NUMBER(int, -1, CHMOD, futimens, number, (int number, const struct timespec times[2]), (number, times))
BY_PARENT(int, -1, CHMOD, utimensat, parent, path,
          (int parent, const char *path, const struct timespec times[2], int flags), (parent, path, times, flags))
BY_PATH(int, -1, SPACE, statvfs, path, (const char *path, struct statvfs *found), (path, found))
BY_PATH(int, -1, SPACE, statvfs64, path, (const char *path, struct statvfs64 *found), (path, found))

#define CONTROLS(name) \
    int name(int number, int command, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        int is_lock = (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK; \
        return is_lock && lock_fails(number) ? -1 : real(number, command, argument); \
    }
CONTROLS(fcntl)
CONTROLS(fcntl64)

/* --- the time of day */

static int64_t offset_ns(void)
{
    return control ? __atomic_load_n(&control->clock_ns, __ATOMIC_ACQUIRE) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found)
{
    REAL(clock_gettime);
    int result = real(clock, found);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t moved = found->tv_sec * INT64_C(1000000000) + found->tv_nsec + offset_ns();
        found->tv_sec = moved / INT64_C(1000000000);
        found->tv_nsec = moved % INT64_C(1000000000);
    }
    return result;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *found, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
