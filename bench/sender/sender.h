/* Shared by the rooms of the sender: sha1.c digests the handshake key, frames.c holds and stamps the frames,
 * peer.c talks to the one client, sender.c reads the options and keeps the pace. */
#ifndef TRUETAPE_BENCH_SENDER_H
#define TRUETAPE_BENCH_SENDER_H

#include <stddef.h>
#include <stdint.h>

/* One frame as it goes over the wire: header and payload; where its stamps lie, or -1. */
struct frame {
    size_t at;  /* offset of the header in the arena */
    size_t len; /* header and payload */
    int64_t ms_at;
    int64_t frac_at;
};

struct frames {
    unsigned char *arena; /* all frames, one after the other */
    struct frame *list;
    size_t n;
};

struct peer {
    int fd;
    const char *ack;      /* answer to a text frame, or NULL */
    const char *pong;     /* answer to a text frame that holds "ping", or NULL */
    const char *rest;     /* body for plain GETs before the upgrade, or NULL: 404 */
    size_t rest_len;
    unsigned char *in;
    size_t in_len;
    unsigned char *out;   /* answers that wait for a frame boundary */
    size_t out_len;
    long texts;           /* text frames received */
    long blocked;         /* writes that found the socket full */
    int closing;          /* the client sent a close frame or went away */
    int64_t deadline_ns;
};

void handshake_accept_key(const char *key, size_t key_len, char out[29]);

int frames_load(struct frames *f, const char *path);
void frames_stamp(struct frames *f, size_t index, int64_t now_ns);

size_t header_write(unsigned char *to, int opcode, size_t len);
int peer_accept(struct peer *p, int listener);
int peer_send(struct peer *p, const unsigned char *data, size_t len);
void peer_read(struct peer *p);
void peer_wait(struct peer *p, int64_t until_ns);
void peer_finish(struct peer *p);

int64_t wall_ns(void);
int64_t steady_ns(void);

#endif
