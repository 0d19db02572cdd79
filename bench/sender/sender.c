/* Sends pre-built WebSocket text frames to one client on loopback, at full speed, paced, or in bursts.
 *
 * First stdout line: {"port": N}. Last: {"sent", "seconds", "cpu_s", "blocked", "texts", "late_max_us", "late_1ms"}.
 * Frames that fall due together are stamped together, with the instant before the first of them is written. When a
 * write found the socket full, the frames that fell due meanwhile carry the instant they were due, not the one at
 * which the receiver let them through: a slow receiver does not hide its own delay. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sender.h"

struct plan {
    const char *path;
    long count;
    double rate;   /* frames/s; 0: full speed */
    long burst;    /* frames that fall due together */
    long texts;    /* client text frames to wait for before the first frame */
    long settle_ms;
    int port, stamp;
    size_t chunk;  /* bytes per write at most */
    double max_s;
};

struct tally {
    long sent;
    int64_t late_max_ns;
    long late_1ms;
};

static int64_t due_ns(const struct plan *plan, int64_t start, long k)
{
    return start + (int64_t)((double)(k / plan->burst * plan->burst) * 1e9 / plan->rate);
}

/* Frames from index `from` on that are due by `now`, none past the file's end. */
static long due_count(const struct plan *plan, const struct frames *f, int64_t start, int64_t now, long sent)
{
    long from = sent % (long)f->n, max = (long)f->n - from, n = 0;
    if (max > plan->count - sent)
        max = plan->count - sent;
    if (plan->rate <= 0) {
        size_t bytes = 0;
        while (n < max && (n == 0 || bytes + f->list[from + n].len <= plan->chunk))
            bytes += f->list[from + n++].len;
        return n;
    }
    while (n < max && due_ns(plan, start, sent + n) <= now)
        n++;
    return n;
}

/* Write frames [from, from + n), whole frames per write, at most `chunk` bytes each. */
static int write_frames(struct peer *p, const struct plan *plan, const struct frames *f, long from, long n)
{
    while (n > 0) {
        long i = 0;
        size_t bytes = 0;
        while (i < n && (i == 0 || bytes + f->list[from + i].len <= plan->chunk))
            bytes += f->list[from + i++].len;
        if (peer_send(p, f->arena + f->list[from].at, bytes) < 0)
            return -1;
        from += i;
        n -= i;
    }
    return 0;
}

static void note_lateness(struct tally *t, int64_t late)
{
    if (late > t->late_max_ns)
        t->late_max_ns = late;
    if (late > 1000000)
        t->late_1ms++;
}

static void run(struct peer *p, const struct plan *plan, struct frames *f, struct tally *t)
{
    int64_t start = steady_ns(), heard = start, to_wall = wall_ns() - start;
    int behind = 0;
    while (t->sent < plan->count && !p->closing) {
        int64_t now = steady_ns();
        if (now > p->deadline_ns)
            return;
        long n = due_count(plan, f, start, now, t->sent), from = t->sent % (long)f->n;
        if (n == 0) {
            behind = 0;
            heard = now;
            peer_wait(p, due_ns(plan, start, t->sent));
            continue;
        }
        if (plan->rate > 0 && !behind)
            note_lateness(t, now - due_ns(plan, start, t->sent));
        for (long i = 0; plan->stamp && i < n; i++)
            frames_stamp(f, (size_t)(from + i), to_wall + (behind ? due_ns(plan, start, t->sent + i) : now));
        long blocked = p->blocked;
        if (write_frames(p, plan, f, from, n) < 0)
            return;
        t->sent += n;
        behind = plan->rate > 0 && (behind || p->blocked > blocked);
        if (now - heard > 1000000) {
            heard = now;
            peer_read(p);
            peer_wait(p, now);
        }
    }
}

static int listen_on(int port, int *bound)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof addr;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 16) < 0)
        return -1;
    getsockname(fd, (struct sockaddr *)&addr, &len);
    *bound = ntohs(addr.sin_port);
    return fd;
}

static char *read_text(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 22);
    *len = file && text ? fread(text, 1, 1 << 22, file) : 0;
    if (file)
        fclose(file);
    return file ? text : NULL;
}

static int options(int argc, char **argv, struct plan *plan, struct peer *p)
{
    static const struct option known[] = {
        {"frames-file", 1, 0, 'f'}, {"count", 1, 0, 'n'},     {"rate", 1, 0, 'r'},      {"burst", 1, 0, 'b'},
        {"wait-texts", 1, 0, 'w'},  {"ack", 1, 0, 'a'},       {"pong", 1, 0, 'g'},      {"settle-ms", 1, 0, 's'},
        {"port", 1, 0, 'p'},        {"stamp", 0, 0, 't'},     {"chunk", 1, 0, 'c'},     {"max-seconds", 1, 0, 'x'},
        {"rest-file", 1, 0, 'h'},   {0, 0, 0, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'f': plan->path = optarg; break;
        case 'n': plan->count = atol(optarg); break;
        case 'r': plan->rate = atof(optarg); break;
        case 'b': plan->burst = atol(optarg); break;
        case 'w': plan->texts = atol(optarg); break;
        case 'a': p->ack = optarg; break;
        case 'g': p->pong = optarg; break;
        case 's': plan->settle_ms = atol(optarg); break;
        case 'p': plan->port = atoi(optarg); break;
        case 't': plan->stamp = 1; break;
        case 'c': plan->chunk = (size_t)atol(optarg); break;
        case 'x': plan->max_s = atof(optarg); break;
        case 'h': p->rest = read_text(optarg, &p->rest_len); break;
        default: return -1;
        }
    }
    return plan->path && plan->count > 0 && plan->burst > 0 ? 0 : -1;
}

static void print_tally(const struct tally *t, const struct peer *p, int64_t took_ns)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"sent\": %ld, \"seconds\": %.6f, \"cpu_s\": %.3f, \"blocked\": %ld, \"texts\": %ld, "
           "\"late_max_us\": %.1f, \"late_1ms\": %ld}\n",
           t->sent, (double)took_ns / 1e9, cpu, p->blocked, p->texts, (double)t->late_max_ns / 1e3, t->late_1ms);
}

int main(int argc, char **argv)
{
    struct plan plan = {.burst = 1, .chunk = 65536, .max_s = 120};
    struct peer peer = {0};
    struct frames frames = {0};
    struct tally tally = {0};
    int port;
    if (options(argc, argv, &plan, &peer) < 0) {
        fprintf(stderr, "usage: sender --frames-file FILE --count N [--rate R] [--burst B] [--stamp] [--port P] ...\n");
        return 2;
    }
    if (frames_load(&frames, plan.path) < 0) {
        fprintf(stderr, "%s: expected a frames file\n", plan.path);
        return 1;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    int listener = listen_on(plan.port, &port);
    if (listener < 0) {
        perror("listen");
        return 1;
    }
    printf("{\"port\": %d}\n", port);
    fflush(stdout);
    peer.deadline_ns = steady_ns() + (int64_t)(plan.max_s * 1e9);
    if (peer_accept(&peer, listener) < 0)
        return 1;
    while (peer.texts < plan.texts && !peer.closing && steady_ns() < peer.deadline_ns)
        peer_wait(&peer, steady_ns() + 1000000);
    peer_wait(&peer, steady_ns() + plan.settle_ms * 1000000);
    int64_t started = steady_ns();
    run(&peer, &plan, &frames, &tally);
    int64_t took = steady_ns() - started;
    peer_finish(&peer);
    print_tally(&tally, &peer, took);
    return tally.sent == plan.count ? 0 : 1;
}
