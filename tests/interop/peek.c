/* Look into a channel from C without consuming anything: proof that the segment is a plain C struct.
 *
 *     cc -std=c11 -Wall -Wextra -Werror -o peek peek.c
 *     ./peek KEY_PATH [CHANNEL]         the header, then every unread fragment
 *     ./peek --cat KEY_PATH [CHANNEL]   the unread bytes, as reader.py would put them out
 *     ./peek --layout                   the offset and size of every field
 *
 * The segment is found by its ftok key and attached with SHM_RDONLY. No turn is taken, so what a running pair
 * changes meanwhile may be seen half-way; whatever is in the segment, nothing outside a slot is read.
 */
#define _XOPEN_SOURCE 700

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include "shmpair.h"

/* The fields that bound every access: copied once, so that nobody can change them under us. */
struct view {
    const struct shmpair_header *header;
    const struct shmpair_slot *slots;
    const unsigned char *payloads;
    uint64_t slot_count, slot_size;
    uint64_t head, tail;
};

static void die(const char *what) {
    fprintf(stderr, "peek: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void refuse(const char *why) {
    fprintf(stderr, "peek: not a channel that I can read: %s\n", why);
    exit(1);
}

static void print_layout(void) {
#define FIELD(type, member) \
    printf(#type "." #member " %zu %zu\n", offsetof(struct shmpair_##type, member), \
           sizeof(((struct shmpair_##type *)0)->member))
    FIELD(header, magic);
    FIELD(header, version);
    FIELD(header, slot_count);
    FIELD(header, slot_size);
    FIELD(header, segment_size);
    FIELD(header, key_dev);
    FIELD(header, key_ino);
    FIELD(header, created_ns);
    FIELD(header, creator_pid);
    FIELD(header, state);
    FIELD(header, writers_joined);
    FIELD(header, writer_pid);
    FIELD(header, reader_pid);
    FIELD(header, semaphore_ids);
    FIELD(header, writers_left);
    FIELD(header, records_torn);
    FIELD(header, nonce);
    FIELD(header, head);
    FIELD(header, tail);
    FIELD(header, output_notes);
    FIELD(header, input_record);
    FIELD(header, input_dev);
    FIELD(header, input_ino);
    FIELD(header, input_mtime_ns);
    FIELD(header, input_place);
    FIELD(header, input_goodbye);
    FIELD(output_note, dev);
    FIELD(output_note, ino);
    FIELD(output_note, size);
    FIELD(output_note, tail);
    FIELD(slot, length);
    FIELD(slot, flags);
    FIELD(slot, record);
    FIELD(slot, offset);
    FIELD(slot, total);
    FIELD(slot, writer_pid);
    FIELD(slot, crc32);
    FIELD(slot, count);
    FIELD(slot, taken);
    FIELD(slot, source_dev);
    FIELD(slot, source_ino);
#undef FIELD
}

static const void *attach(const char *path, int channel, uint64_t *size) {
    struct shmid_ds ds;
    const void *memory;
    key_t key = ftok(path, 8 * channel + 1);
    if (key == -1) die(path);
    int shmid = shmget(key, 0, 0);
    if (shmid == -1) die("shmget");
    memory = shmat(shmid, NULL, SHM_RDONLY);
    if (memory == (const void *)-1) die("shmat");
    if (shmctl(shmid, IPC_STAT, &ds) == -1) die("shmctl(IPC_STAT)");
    *size = ds.shm_segsz;
    return memory;
}

/* The same checks as layout.read_geometry: nothing in the segment is believed before it is checked. */
static struct view check(const void *memory, uint64_t size) {
    const struct shmpair_header *header = memory;
    struct view view = {.header = header};
    uint64_t payloads_at;
    if (size < SHMPAIR_PAGE) refuse("it is smaller than a header");
    if (memcmp(header->magic, SHMPAIR_MAGIC, 8) != 0) refuse("its magic is not " SHMPAIR_MAGIC);
    if (header->version != SHMPAIR_VERSION) refuse("its version is another");
    view.slot_count = header->slot_count;
    view.slot_size = header->slot_size;
    payloads_at = SHMPAIR_PAGE + (view.slot_count * sizeof(struct shmpair_slot) + 4095) / 4096 * 4096;
    if (view.slot_count == 0 || view.slot_size == 0 || view.slot_size > size / view.slot_count
        || payloads_at + view.slot_count * view.slot_size != size || header->segment_size != size)
        refuse("its sizes contradict each other");
    view.slots = (const void *)((const char *)memory + SHMPAIR_PAGE);
    view.payloads = (const unsigned char *)memory + payloads_at;
    view.tail = __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE);
    view.head = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE);
    if (view.head - view.tail > view.slot_count) refuse("head and tail contradict each other");
    return view;
}

static struct shmpair_slot slot_of(const struct view *view, uint64_t number) {
    struct shmpair_slot slot = view->slots[number % (view->slot_count < 2 ? 2 : view->slot_count)];
    if (slot.length > view->slot_size || slot.taken > slot.length) refuse("a fragment is longer than its slot");
    return slot;
}

static const unsigned char *payload_of(const struct view *view, uint64_t number) {
    return view->payloads + number % view->slot_count * view->slot_size;
}

static void print_header(const struct view *view) {
    const struct shmpair_header *h = view->header;
    printf("magic %.8s\nversion %" PRIu32 "\nstate %" PRIu32 "\n", h->magic, h->version, h->state);
    printf("slot_count %" PRIu32 "\nslot_size %" PRIu64 "\n", h->slot_count, h->slot_size);
    printf("segment_size %" PRIu64 "\n", h->segment_size);
    printf("key_dev %" PRIu64 "\nkey_ino %" PRIu64 "\n", h->key_dev, h->key_ino);
    printf("created_ns %" PRIu64 "\ncreator_pid %" PRIu32 "\n", h->created_ns, h->creator_pid);
    printf("writers_joined %" PRIu64 "\nwriters_left %" PRIu64 "\n", h->writers_joined, h->writers_left);
    printf("records_torn %" PRIu64 "\n", h->records_torn);
    printf("writer_pid %" PRIu32 "\nreader_pid %" PRIu32 "\n", h->writer_pid, h->reader_pid);
    for (int i = 0; i < 5; i++) printf("semaphore_id %" PRId32 "\n", h->semaphore_ids[i]);
    printf("head %" PRIu64 "\ntail %" PRIu64 "\n", view->head, view->tail);
    for (int i = 0; i < 2; i++)
        printf("output_note %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", h->output_notes[i].tail,
               h->output_notes[i].dev, h->output_notes[i].ino, h->output_notes[i].size);
    printf("input_record %" PRIu64 "\n", h->input_record);
    printf("input_dev %" PRIu64 "\ninput_ino %" PRIu64 "\n", h->input_dev, h->input_ino);
    printf("input_mtime_ns %" PRIu64 "\n", h->input_mtime_ns);
    printf("input_place %" PRIu64 "\ninput_goodbye %" PRIu64 "\n", h->input_place, h->input_goodbye);
}

/* zlib's crc32, a bit at a time. */
static uint32_t crc32_of(const unsigned char *data, uint32_t length) {
    uint32_t crc = UINT32_MAX;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static void print_fragment(const struct view *view, uint64_t number) {
    struct shmpair_slot s = slot_of(view, number);
    const char *sum = "unchecked";
    if (s.flags & SHMPAIR_CHECKED) sum = crc32_of(payload_of(view, number), s.length) == s.crc32 ? "good" : "bad";
    printf("fragment %" PRIu64 " length %" PRIu32 " flags %" PRIu32 " record %" PRIu64 " offset %" PRIu64, number,
           s.length, s.flags, s.record, s.offset);
    printf(" total %" PRIu64 " writer_pid %" PRIu32 " count %" PRIu32 " taken %" PRIu32 " crc32 %s\n", s.total,
           s.writer_pid, s.count, s.taken, sum);
}

static void cat_fragment(const struct view *view, uint64_t number) {
    struct shmpair_slot s = slot_of(view, number);
    if (fwrite(payload_of(view, number) + s.taken, 1, s.length - s.taken, stdout) != s.length - s.taken)
        die("standard output");
}

int main(int argc, char **argv) {
    int cat = argc > 1 && strcmp(argv[1], "--cat") == 0;
    uint64_t size;
    if (argc == 2 && strcmp(argv[1], "--layout") == 0) {
        print_layout();
        return 0;
    }
    argc -= cat;
    argv += cat;
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: peek [--cat] KEY_PATH [CHANNEL] | peek --layout\n");
        return 2;
    }
    const void *memory = attach(argv[1], argc == 3 ? atoi(argv[2]) : 0, &size);
    struct view view = check(memory, size);
    if (!cat) print_header(&view);
    for (uint64_t number = view.tail; number != view.head; number++)
        (cat ? cat_fragment : print_fragment)(&view, number);
    if (fflush(stdout) != 0) die("standard output");
    if (shmdt(memory) == -1) die("shmdt");
    return 0;
}
