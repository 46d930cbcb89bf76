/* The bytes in the segment, as C sees them: the same fields that common/layout.py describes.
 *
 *     offset 0       struct shmpair_header, in a page of its own
 *     offset 4096    struct shmpair_slot[slot_count], rounded up to a page
 *     then           slot_count payloads of slot_size bytes
 *
 * Fragment number n lives in slot n % slot_count; tail <= n < head are the unread ones. A plain C struct is enough:
 * native byte order, every field naturally aligned, head and tail on cache lines of their own.
 */
#ifndef SHMPAIR_H
#define SHMPAIR_H

#include <stddef.h>
#include <stdint.h>

#define SHMPAIR_MAGIC "SHMPAIR1"
#define SHMPAIR_VERSION 2
#define SHMPAIR_PAGE 4096
#define SHMPAIR_UNKNOWN UINT64_MAX /* a record's total while its end is not known */

enum shmpair_state { SHMPAIR_OPEN = 1, SHMPAIR_FINISHED = 2, SHMPAIR_REMOVED = 3 };

enum shmpair_flags {
    SHMPAIR_FIRST = 1,   /* this fragment begins its record */
    SHMPAIR_LAST = 2,    /* this fragment ends its record */
    SHMPAIR_ABORTED = 4, /* no data: the record's writer is gone */
    SHMPAIR_CHECKED = 8, /* crc32 is valid */
    SHMPAIR_LINES = 16   /* whole newline-terminated lines, each a record */
};

struct shmpair_output_note { /* where a reader's output file stood at fragment `tail` */
    uint64_t dev;
    uint64_t ino;
    uint64_t size;
    uint64_t tail;
};

struct shmpair_header {
    char magic[8];
    uint32_t version;
    uint32_t slot_count;
    uint64_t slot_size;
    uint64_t segment_size;
    uint64_t key_dev;
    uint64_t key_ino;
    uint64_t created_ns;
    uint32_t creator_pid;
    uint32_t state;
    uint64_t writers_joined;
    uint32_t writer_pid;
    uint32_t reader_pid;
    int32_t semaphore_ids[5]; /* full_slots, empty_slots, writer_turn, reader_turn, writers */
    uint32_t padding;
    uint64_t writers_left;
    uint64_t records_torn;
    uint64_t nonce; /* in the names of POSIX semaphores; 0: System V */
    _Alignas(64) uint64_t head; /* in a loop: __atomic_load_n(&h->head, __ATOMIC_ACQUIRE) */
    _Alignas(64) uint64_t tail;
    _Alignas(64) struct shmpair_output_note output_notes[2];
    uint64_t input_record;
    uint64_t input_dev;
    uint64_t input_ino;
    uint64_t input_mtime_ns;
    uint64_t input_place;
    uint64_t input_goodbye;
};

struct shmpair_slot {
    uint32_t length;
    uint32_t flags;
    uint64_t record;
    uint64_t offset;
    uint64_t total;
    uint32_t writer_pid;
    uint32_t crc32;
    uint32_t count;
    uint32_t taken;
    uint64_t source_dev; /* the file that the bytes come from, 0: none */
    uint64_t source_ino;
};

#define SHMPAIR_AT(type, member, at) \
    _Static_assert(offsetof(struct type, member) == (at), #type "." #member " is not at " #at)

SHMPAIR_AT(shmpair_header, magic, 0);
SHMPAIR_AT(shmpair_header, version, 8);
SHMPAIR_AT(shmpair_header, slot_count, 12);
SHMPAIR_AT(shmpair_header, slot_size, 16);
SHMPAIR_AT(shmpair_header, segment_size, 24);
SHMPAIR_AT(shmpair_header, key_dev, 32);
SHMPAIR_AT(shmpair_header, key_ino, 40);
SHMPAIR_AT(shmpair_header, created_ns, 48);
SHMPAIR_AT(shmpair_header, creator_pid, 56);
SHMPAIR_AT(shmpair_header, state, 60);
SHMPAIR_AT(shmpair_header, writers_joined, 64);
SHMPAIR_AT(shmpair_header, writer_pid, 72);
SHMPAIR_AT(shmpair_header, reader_pid, 76);
SHMPAIR_AT(shmpair_header, semaphore_ids, 80);
SHMPAIR_AT(shmpair_header, writers_left, 104);
SHMPAIR_AT(shmpair_header, records_torn, 112);
SHMPAIR_AT(shmpair_header, nonce, 120);
SHMPAIR_AT(shmpair_header, head, 128);
SHMPAIR_AT(shmpair_header, tail, 192);
SHMPAIR_AT(shmpair_header, output_notes, 256);
SHMPAIR_AT(shmpair_header, input_record, 320);
SHMPAIR_AT(shmpair_header, input_dev, 328);
SHMPAIR_AT(shmpair_header, input_ino, 336);
SHMPAIR_AT(shmpair_header, input_mtime_ns, 344);
SHMPAIR_AT(shmpair_header, input_place, 352);
SHMPAIR_AT(shmpair_header, input_goodbye, 360);
_Static_assert(sizeof(struct shmpair_header) <= SHMPAIR_PAGE, "the header is one page");
SHMPAIR_AT(shmpair_output_note, dev, 0);
SHMPAIR_AT(shmpair_output_note, ino, 8);
SHMPAIR_AT(shmpair_output_note, size, 16);
SHMPAIR_AT(shmpair_output_note, tail, 24);
_Static_assert(sizeof(struct shmpair_output_note) == 32, "two notes are one cache line");
SHMPAIR_AT(shmpair_slot, length, 0);
SHMPAIR_AT(shmpair_slot, flags, 4);
SHMPAIR_AT(shmpair_slot, record, 8);
SHMPAIR_AT(shmpair_slot, offset, 16);
SHMPAIR_AT(shmpair_slot, total, 24);
SHMPAIR_AT(shmpair_slot, writer_pid, 32);
SHMPAIR_AT(shmpair_slot, crc32, 36);
SHMPAIR_AT(shmpair_slot, count, 40);
SHMPAIR_AT(shmpair_slot, taken, 44);
SHMPAIR_AT(shmpair_slot, source_dev, 48);
SHMPAIR_AT(shmpair_slot, source_ino, 56);
_Static_assert(sizeof(struct shmpair_slot) == 64, "a slot header is one cache line");

#endif
