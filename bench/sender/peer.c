/* The one client: upgrade, its own frames answered, our bytes written whole. Nothing here knows about pace. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sender.h"

#define IN_MAX (1 << 20)  /* a subscribe message of a thousand symbols is some 15 kB */
#define OUT_MAX (1 << 20)

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t wall_ns(void) { return clock_ns(CLOCK_REALTIME); }
int64_t steady_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Write everything; reads what the client says while the socket is full. -1: the client is gone or time is up. */
int peer_send(struct peer *p, const unsigned char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(p->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            p->closing = 1;
            return -1;
        }
        struct pollfd wait = {p->fd, POLLOUT | POLLIN, 0};
        p->blocked++;
        if (steady_ns() > p->deadline_ns)
            return -1;
        poll(&wait, 1, 100);
        if (wait.revents & POLLIN)
            peer_read(p);
    }
    return 0;
}

/* Queue one frame; it leaves at the next frame boundary. */
static void answer(struct peer *p, int opcode, const void *data, size_t len)
{
    if (p->out_len + len + 10 > OUT_MAX)
        return;
    p->out_len += header_write(p->out + p->out_len, opcode, len);
    memcpy(p->out + p->out_len, data, len);
    p->out_len += len;
}

/* Answer a text; 13 zeros in the answer become the clock in milliseconds. */
static void answer_text(struct peer *p, const char *text)
{
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", text);
    char *at = strstr(copy, "0000000000000");
    if (at) {
        char ms[24];
        snprintf(ms, sizeof ms, "%013lld", (long long)(wall_ns() / 1000000));
        memcpy(at, ms, 13);
    }
    answer(p, 1, copy, strlen(copy));
}

/* One whole client frame: its length in the buffer, or 0 when more bytes are due. */
static size_t one_frame(struct peer *p, unsigned char *at, size_t have)
{
    if (have < 2)
        return 0;
    size_t len = at[1] & 0x7f, header = 2;
    if (len >= 126) {
        int bytes = len == 126 ? 2 : 8;
        header += (size_t)bytes;
        if (have < header)
            return 0;
        len = 0;
        for (int i = 0; i < bytes; i++)
            len = len << 8 | at[2 + i];
    }
    unsigned char *mask = at + header;
    header += at[1] & 0x80 ? 4 : 0;
    if (have < header + len)
        return 0;
    unsigned char *body = at + header;
    if (at[1] & 0x80)
        for (size_t i = 0; i < len; i++)
            body[i] ^= mask[i & 3];
    int opcode = at[0] & 0x0f;
    if (opcode == 9)
        answer(p, 10, body, len);
    else if (opcode == 8)
        p->closing = 1;
    else if (opcode == 1) {
        p->texts++;
        if (p->pong && memmem(body, len, "\"ping\"", 6))
            answer_text(p, p->pong);
        else if (p->ack)
            answer_text(p, p->ack);
    }
    return header + len;
}

/* Take what the client sent, without waiting. */
void peer_read(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->in_len, IN_MAX - p->in_len, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        p->closing = 1;
    if (n <= 0)
        return;
    p->in_len += (size_t)n;
    size_t used = 0, took;
    while ((took = one_frame(p, p->in + used, p->in_len - used)) > 0)
        used += took;
    memmove(p->in, p->in + used, p->in_len - used);
    p->in_len -= used;
}

/* Read and answer until the instant; the last 80 microseconds are spun, because a timer is late by as much. */
void peer_wait(struct peer *p, int64_t until_ns)
{
    for (;;) {
        int64_t left = until_ns - steady_ns();
        if (left > 100000 && !p->closing) {
            struct timespec nap = {(left - 80000) / 1000000000, (left - 80000) % 1000000000};
            struct pollfd wait = {p->fd, POLLIN, 0};
            if (ppoll(&wait, 1, &nap, NULL) > 0)
                peer_read(p);
        }
        if (p->out_len) {
            size_t len = p->out_len;
            p->out_len = 0;
            peer_send(p, p->out, len);
        }
        if (left <= 0 || p->closing)
            return;
    }
}

/* Close frame, then wait (3 s at most) until the client has read everything and closes. */
void peer_finish(struct peer *p)
{
    static const unsigned char close_1000[] = {0x88, 2, 0x03, 0xE8};
    peer_send(p, close_1000, sizeof close_1000);
    peer_wait(p, steady_ns() + 3000000000LL);
    close(p->fd);
}

/* The request's head up to the empty line; 0 when the client went away. */
static size_t request_head(int fd, char *head, size_t max)
{
    size_t have = 0;
    while (have < max - 1) {
        ssize_t n = recv(fd, head + have, max - 1 - have, 0);
        if (n <= 0)
            return 0;
        have += (size_t)n;
        head[have] = 0;
        if (strstr(head, "\r\n\r\n"))
            return have;
    }
    return 0;
}

static void answer_rest(const struct peer *p, int fd)
{
    char head[200];
    int len = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                       "Connection: close\r\n\r\n", p->rest ? "200 OK" : "404 Not Found", p->rest_len);
    send(fd, head, (size_t)len, MSG_NOSIGNAL);
    if (p->rest)
        send(fd, p->rest, p->rest_len, MSG_NOSIGNAL);
    close(fd);
}

/* Accept until one connection asks for a WebSocket; plain requests are answered on the way. */
int peer_accept(struct peer *p, int listener)
{
    static char head[16384];
    p->in = malloc(IN_MAX);
    p->out = malloc(OUT_MAX);
    while (steady_ns() < p->deadline_ns) {
        struct pollfd wait = {listener, POLLIN, 0};
        if (poll(&wait, 1, 100) <= 0)
            continue;
        int fd = accept(listener, NULL, NULL), one = 1;
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!request_head(fd, head, sizeof head)) {
            close(fd);
            continue;
        }
        char *key = strcasestr(head, "\r\nSec-WebSocket-Key:"), sum[29], reply[256];
        if (!key) {
            answer_rest(p, fd);
            continue;
        }
        key += 20;
        key += strspn(key, " \t");
        handshake_accept_key(key, strcspn(key, " \t\r"), sum);
        int len = snprintf(reply, sizeof reply, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", sum);
        p->fd = fd;
        return peer_send(p, (unsigned char *)reply, (size_t)len);
    }
    return -1;
}
