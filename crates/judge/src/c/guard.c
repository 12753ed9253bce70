/* The allocator that C and C++ answers get instead of the C library's.
 *
 * Every block has pages of its own and ends exactly at an inaccessible page; what lies before it on its first page are
 * canaries. A freed block becomes inaccessible and its addresses are never used again. So reading or writing one byte past
 * the end, using a block after it was freed and freeing it twice crash every time, and writing in front of a block is
 * found when it is freed or at the end of a call.
 *
 * Fresh blocks hold 0xA5 (calloc: zeros), so that what depends on their contents goes wrong every time.
 *
 * The functions replace the linker's symbols with --wrap, in the answer's shared object only: the C library and the
 * interpreter go on with their own. Blocks that the C library allocated (getline, asprintf, open_memstream, ...) and that the
 * answer frees or resizes are told apart by their address.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void __real_free(void *block);
void *__real_realloc(void *block, size_t size);

#define PAGE ((size_t)4096)
#define FRESH 0xA5
#define CANARY 0xC3
/* Addresses that are reserved; pages are only paid for when they are used. */
#define REGION ((size_t)1 << 34)
/* Each block that is alive splits the region; the kernel allows 65,530 parts. */
#define MOST_ALIVE 30000
#define MOST_BYTES_ALIVE ((size_t)512 << 20)

enum owner { NOBODY, ANSWER, TESTER };

struct record {
    unsigned char *block;
    size_t size;
    unsigned char *pages;
    size_t length;
    enum owner owner;
    int freed;
    int read_only;
};

static unsigned char *region, *next;
static struct record *records;
static size_t record_count, record_room;
static size_t alive, alive_bytes;
static long failing_after = -1;

/* A message for the tester, then the crash that it is. */
static void crash(const char *what)
{
    ssize_t ignored = write(2, what, strlen(what));
    (void)ignored;
    ignored = write(2, "\n", 1);
    (void)ignored;
    abort();
}

static void *map(size_t length, int protection)
{
    void *pages = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

static struct record *new_record(void)
{
    if (record_count == record_room) {
        size_t room = record_room ? record_room * 2 : 1024;
        struct record *larger = map(room * sizeof *larger, PROT_READ | PROT_WRITE);
        if (!larger)
            return NULL;
        if (records) {
            memcpy(larger, records, record_count * sizeof *records);
            munmap(records, record_room * sizeof *records);
        }
        records = larger;
        record_room = room;
    }
    return &records[record_count++];
}

/* Records are in the order of their addresses. */
static struct record *record_of(const void *address)
{
    size_t low = 0, high = record_count;
    const unsigned char *wanted = address;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (wanted < records[middle].pages)
            high = middle;
        else if (wanted >= records[middle].pages + records[middle].length + PAGE)
            low = middle + 1;
        else
            return &records[middle];
    }
    return NULL;
}

static int inside(const void *address)
{
    return region && (const unsigned char *)address >= region && (const unsigned char *)address < region + REGION;
}

static void check_canary(const struct record *record)
{
    for (const unsigned char *byte = record->pages; byte < record->block; byte++)
        if (*byte != CANARY)
            crash("memory in front of a block was written to");
}

static void *allocate(size_t size, size_t alignment, int fill, enum owner owner)
{
    if (owner == ANSWER) {
        if (failing_after > 0)
            failing_after--;
        if (failing_after == 0) {
            errno = ENOMEM;
            return NULL;
        }
    }
    if (!region) {
        region = next = map(REGION, PROT_NONE);
        if (!region) {
            errno = ENOMEM;
            return NULL;
        }
    }
    /* At least one canary stands before the block. */
    size_t length = size > MOST_BYTES_ALIVE ? 0 : (size + alignment + PAGE) / PAGE * PAGE;
    if (!length || alive >= MOST_ALIVE || alive_bytes + size > MOST_BYTES_ALIVE
        || (size_t)(region + REGION - next) < length + 2 * PAGE) {
        errno = ENOMEM;
        return NULL;
    }
    unsigned char *pages = next;
    if (mprotect(pages, length, PROT_READ | PROT_WRITE)) {
        errno = ENOMEM;
        return NULL;
    }
    struct record *record = new_record();
    if (!record) {
        errno = ENOMEM;
        return NULL;
    }
    next += length + PAGE;
    unsigned char *block = pages + length - size;
    if (alignment > 1)
        block -= (uintptr_t)block % alignment;
    memset(pages, CANARY, (size_t)(block - pages));
    memset(block, fill, (size_t)(pages + length - block));
    *record = (struct record){ block, size, pages, length, owner, 0, 0 };
    alive_bytes += size;
    alive++;
    return block;
}

/* The record of a block that may be freed or resized by the answer. */
static struct record *answers_block(void *block)
{
    struct record *record = record_of(block);
    if (!record || record->block != block)
        crash("free of an address that is no block of the heap");
    if (record->freed)
        crash("a block was freed twice");
    if (record->owner != ANSWER)
        crash("free of memory that is not the answer's");
    check_canary(record);
    return record;
}

static void release(struct record *record)
{
    record->freed = 1;
    alive--;
    alive_bytes -= record->size;
    madvise(record->pages, record->length, MADV_DONTNEED);
    mprotect(record->pages, record->length, PROT_NONE);
}

void *__wrap_malloc(size_t size)
{
    return allocate(size, 1, FRESH, ANSWER);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return allocate(bytes, 1, 0, ANSWER);
}

void __wrap_free(void *block)
{
    int before = errno;
    if (!block)
        return;
    if (!inside(block)) {
        /* Allocated by the C library for the answer, which the C library checks itself. */
        __real_free(block);
        return;
    }
    release(answers_block(block));
    errno = before;
}

void *__wrap_realloc(void *block, size_t size)
{
    if (!block)
        return __wrap_malloc(size);
    if (!inside(block))
        return __real_realloc(block, size);
    struct record *record = answers_block(block);
    if (!size) {
        release(record);
        return NULL;
    }
    size_t kept = record->size < size ? record->size : size;
    unsigned char *moved = allocate(size, 1, FRESH, ANSWER);
    if (!moved)
        return NULL;
    memcpy(moved, block, kept);
    /* Records may have moved. */
    release(record_of(block));
    return moved;
}

void *__wrap_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return __wrap_realloc(block, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (!alignment || (alignment & (alignment - 1)) || alignment > PAGE) {
        errno = EINVAL;
        return NULL;
    }
    return allocate(size, alignment, FRESH, ANSWER);
}

int __wrap_posix_memalign(void **place, size_t alignment, size_t size)
{
    void *block = __wrap_aligned_alloc(alignment, size);
    if (!block)
        return errno;
    *place = block;
    return 0;
}

char *__wrap_strndup(const char *text, size_t most)
{
    size_t length = strnlen(text, most);
    char *copy = __wrap_malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

char *__wrap_strdup(const char *text)
{
    size_t length = strlen(text);
    char *copy = __wrap_malloc(length + 1);
    if (copy)
        memcpy(copy, text, length + 1);
    return copy;
}

int __wrap_vasprintf(char **place, const char *format, va_list values)
{
    va_list again;
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        return -1;
    char *text = __wrap_malloc((size_t)length + 1);
    if (!text)
        return -1;
    *place = text;
    return vsnprintf(text, (size_t)length + 1, format, values);
}

int __wrap_asprintf(char **place, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = __wrap_vasprintf(place, format, values);
    va_end(values);
    return length;
}

/* What fortified calls of the last two become. */
int __wrap___vasprintf_chk(char **place, int flag, const char *format, va_list values)
{
    (void)flag;
    return __wrap_vasprintf(place, format, values);
}

int __wrap___asprintf_chk(char **place, int flag, const char *format, ...)
{
    (void)flag;
    va_list values;
    va_start(values, format);
    int length = __wrap_vasprintf(place, format, values);
    va_end(values);
    return length;
}

/* C++'s operators. They are found here before those of the C++ library, whose strings and containers so use them too.
 * An allocation that fails ends the process, since nothing can be thrown from here. */
void *operator_new(size_t size) __asm__("_Znwm");
void *operator_new_array(size_t size) __asm__("_Znam");
void operator_delete(void *block) __asm__("_ZdlPv");
void operator_delete_array(void *block) __asm__("_ZdaPv");
void operator_delete_sized(void *block, size_t size) __asm__("_ZdlPvm");
void operator_delete_array_sized(void *block, size_t size) __asm__("_ZdaPvm");

void *operator_new(size_t size)
{
    void *block = allocate(size, 1, FRESH, ANSWER);
    if (!block)
        crash("new: out of memory");
    return block;
}

void *operator_new_array(size_t size)
{
    return operator_new(size);
}

void operator_delete(void *block)
{
    __wrap_free(block);
}

void operator_delete_array(void *block)
{
    __wrap_free(block);
}

void operator_delete_sized(void *block, size_t size)
{
    (void)size;
    __wrap_free(block);
}

void operator_delete_array_sized(void *block, size_t size)
{
    (void)size;
    __wrap_free(block);
}

/* A crash must end the process: an answer that catches its own cannot be seen to crash. */
static int is_crash(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGABRT || number == SIGTRAP
        || number == SIGFPE;
}

void (*__real_signal(int number, void (*handler)(int)))(int);
int __real_sigaction(int number, const struct sigaction *action, struct sigaction *before);

void (*__wrap_signal(int number, void (*handler)(int)))(int)
{
    if (is_crash(number)) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return __real_signal(number, handler);
}

int __wrap_sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
    if (action && is_crash(number)) {
        errno = EINVAL;
        return -1;
    }
    return __real_sigaction(number, action, before);
}

/* For the tester: memory with the same guards that the answer may use and not free. */
void *vul2safe_allocate(size_t size, int fill)
{
    return allocate(size, 1, fill, TESTER);
}

/* Makes the pages of a tester's block unwritable. */
int vul2safe_protect(void *block)
{
    struct record *record = record_of(block);
    if (!record)
        return -1;
    record->read_only = 1;
    return mprotect(record->pages, record->length, PROT_READ);
}

/* After each call: crashes if something in front of a live block was written to. */
void vul2safe_check(void)
{
    for (size_t index = 0; index < record_count; index++)
        if (!records[index].freed)
            check_canary(&records[index]);
}

size_t vul2safe_alive(void)
{
    size_t count = 0;
    for (size_t index = 0; index < record_count; index++)
        count += !records[index].freed && records[index].owner == ANSWER;
    return count;
}

/* Whether this is the start of a block of the answer's that is alive. */
int vul2safe_is_block(const void *address)
{
    struct record *record = inside(address) ? record_of(address) : NULL;
    return record && record->block == address && !record->freed && record->owner == ANSWER;
}

void vul2safe_fail_allocation(long number)
{
    failing_after = number > 0 ? number : -1;
}
