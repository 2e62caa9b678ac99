/* Stands between a process and the files of one directory; see faulty_disk.py. */
#define _GNU_SOURCE
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

struct control { int32_t error, opens, sync_ms; };
static struct control idle;
static volatile struct control *control = &idle;
static const char *directory;
static size_t directory_length;
static int log_descriptor = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTY_CONTROL"), *log = getenv("FAULTY_LOG");
    directory = getenv("FAULTY_DISK");
    if (!directory || !path) { directory = NULL; return; }
    directory = strdup(directory);  /* whoever sets its title overwrites its environment */
    directory_length = strlen(directory);
    int descriptor = REAL(int, "open", const char *, int, ...)(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (page != MAP_FAILED) control = page;
    if (log)
        log_descriptor = REAL(int, "open", const char *, int, ...)(
            log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* The path below the directory, or NULL if the file is elsewhere. */
static const char *below(int descriptor, char *path, size_t size) {
    if (!directory) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int kept = errno;
    ssize_t length = readlink(link, path, size - 1);
    errno = kept;
    if (length < 0) return NULL;
    path[length] = 0;
    if (!strncmp(path, directory, directory_length)) return path + directory_length;
    return NULL;
}

static int is_quiet(void) { return !directory || (!control->error && log_descriptor < 0); }

/* Whether the call is to fail; errno says how. */
static int fails(int descriptor) {
    char path[4096];
    int error = control->error;
    if (!error || !below(descriptor, path, sizeof path)) return 0;
    errno = error;
    return 1;
}

static void note(char what, int descriptor, int64_t offset, int64_t length, const void *data) {
    char path[4096];
    const char *name;
    if (log_descriptor < 0 || !(name = below(descriptor, path, sizeof path))) return;
    struct { char what, none[3]; int32_t name; int64_t offset, length; } record =
        {what, {0, 0, 0}, (int32_t) strlen(name), offset, length};
    struct iovec parts[3] = {{&record, sizeof record}, {(void *) name, strlen(name)},
                             {(void *) data, data ? (size_t) length : 0}};
    int kept = errno;
    pthread_mutex_lock(&lock);
    if (writev(log_descriptor, parts, 3) < 0) {}
    pthread_mutex_unlock(&lock);
    errno = kept;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    if (is_quiet()) return REAL(ssize_t, "write", int, const void *, size_t)(descriptor, data, size);
    if (fails(descriptor)) return -1;
    ssize_t done = REAL(ssize_t, "write", int, const void *, size_t)(descriptor, data, size);
    if (done > 0 && log_descriptor >= 0) {
        int kept = errno;
        off_t after = lseek(descriptor, 0, SEEK_CUR);
        errno = kept;
        if (after >= done) note('w', descriptor, after - done, done, data);
    }
    return done;
}

static ssize_t write_at(const char *name, int descriptor, const void *data, size_t size, off_t at) {
    if (!is_quiet() && fails(descriptor)) return -1;
    ssize_t done = REAL(ssize_t, name, int, const void *, size_t, off_t)(descriptor, data, size, at);
    if (done > 0) note('w', descriptor, at, done, data);
    return done;
}

ssize_t pwrite(int d, const void *data, size_t size, off_t at) {
    return write_at("pwrite", d, data, size, at);
}
ssize_t pwrite64(int d, const void *data, size_t size, off64_t at) {
    return write_at("pwrite64", d, data, size, at);
}

static int synchronise(const char *name, int descriptor) {
    char path[4096];
    if (directory && fails(descriptor)) return -1;
    if (control->sync_ms && below(descriptor, path, sizeof path)) {
        struct timespec wait = {control->sync_ms / 1000, (control->sync_ms % 1000) * 1000000L};
        nanosleep(&wait, NULL);
    }
    int done = REAL(int, name, int)(descriptor);
    if (!done) note('s', descriptor, 0, 0, NULL);
    return done;
}

int fsync(int descriptor) { return synchronise("fsync", descriptor); }
int fdatasync(int descriptor) { return synchronise("fdatasync", descriptor); }

static int shorten(const char *name, int descriptor, off_t length) {
    if (!is_quiet() && fails(descriptor)) return -1;
    int done = REAL(int, name, int, off_t)(descriptor, length);
    if (!done) note('t', descriptor, length, 0, NULL);
    return done;
}

int ftruncate(int descriptor, off_t length) { return shorten("ftruncate", descriptor, length); }
int ftruncate64(int descriptor, off64_t length) { return shorten("ftruncate64", descriptor, length); }

static int reserve(const char *name, int descriptor, off_t offset, off_t length) {
    if (!is_quiet() && fails(descriptor)) return errno;
    return REAL(int, name, int, off_t, off_t)(descriptor, offset, length);
}

int posix_fallocate(int d, off_t at, off_t length) { return reserve("posix_fallocate", d, at, length); }
int posix_fallocate64(int d, off64_t at, off64_t length) {
    return reserve("posix_fallocate64", d, at, length);
}

/* A new file is refused; on a read-only file system every file that is opened for writing. */
static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    if (directory && control->error && !strncmp(path, directory, directory_length)) {
        struct stat found;
        int writes = flags & (O_WRONLY | O_RDWR | O_CREAT);
        if (control->opens ? writes : (flags & O_CREAT) && stat(path, &found)) {
            errno = control->error;
            return -1;
        }
    }
    return REAL(int, name, const char *, int, ...)(path, flags, mode);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return open_any("open", path, flags, mode); }
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return open_any("open64", path, flags, mode);
}

static int changes_names(const char *path) {
    if (!directory || !control->opens || strncmp(path, directory, directory_length)) return 0;
    errno = control->error;
    return 1;
}

int unlink(const char *path) {
    if (changes_names(path)) return -1;
    if (log_descriptor >= 0) {
        int descriptor = REAL(int, "open", const char *, int, ...)(path, O_RDONLY | O_CLOEXEC);
        if (descriptor >= 0) { note('u', descriptor, 0, 0, NULL); close(descriptor); }
    }
    return REAL(int, "unlink", const char *)(path);
}

int rename(const char *from, const char *to) {
    if (changes_names(to)) return -1;
    return REAL(int, "rename", const char *, const char *)(from, to);
}
