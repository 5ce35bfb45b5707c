/* Generates load for a pair of proxies: a server that echoes or discards, and clients. One epoll loop, no threads.
 *
 *   load serve    PORT
 *   load bulk     PORT CONNECTIONS BYTES_EACH            BYTES_EACH 0: until the process is ended
 *   load pingpong PORT CONNECTIONS MESSAGES SIZE SECONDS stops after MESSAGES in all or SECONDS, whichever is first
 *   load connect  PORT CONCURRENCY CONNECTIONS
 *   load idle     PORT CONNECTIONS
 *
 * A client opens its connections, prints "ready" when each has reached the server, and waits for a line on stdin. Then
 * it works, prints one line of JSON, and exits at the end of stdin. So the caller can measure the work alone.
 *
 * A connection begins with 'E' (the server echoes all that follows), or with 'S' and a length (eight bytes, big-endian):
 * the server answers 'R', reads and discards that many bytes (0: all that come), and answers 'K'.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, HEADER = 9, BATCH = 64, EVENTS = 256, LIMIT_S = 120, HELLO = 16 };
enum state { OPENING, ECHOING, SWALLOWING, DONE };

struct conn {
    int fd;
    enum state state;
    uint64_t left, began;
    size_t got;
    unsigned char header[HEADER];
};

static unsigned char buffer[CHUNK];
static int poller;

static void fail(const char *format, ...)
{
    va_list words;
    va_start(words, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, words);
    fprintf(stderr, " (%s)\n", errno ? strerror(errno) : "the other side ended it");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(struct conn *c, uint32_t events)
{
    struct epoll_event want = {.events = events, .data.ptr = c};
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &want) < 0)
        fail("can't watch a socket");
}

static void put(int fd, const void *bytes, size_t size)
{
    errno = 0;
    if (send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("a connection took less than %zu bytes", size);
}

static void expect(int fd, size_t size)
{
    errno = 0;
    if (recv(fd, buffer, size, MSG_WAITALL) != (ssize_t)size)
        fail("a connection gave less than %zu bytes", size);
}

/* ---- the server ---- */

static void swallow(struct conn *c, uint64_t size)
{
    if (c->left == 0)
        return;
    c->left -= size < c->left ? size : c->left;
    if (c->left == 0) {
        put(c->fd, "K", 1);
        c->state = DONE;
    }
}

static size_t open_with(struct conn *c, const unsigned char *bytes, size_t size)
{
    size_t used = 0;
    while (used < size && c->state == OPENING) {
        c->header[c->got++] = bytes[used++];
        if (c->header[0] == 'E')
            c->state = ECHOING;
        else if (c->got == HEADER) {
            for (int i = 1; i < HEADER; i++)
                c->left = c->left << 8 | c->header[i];
            c->state = SWALLOWING;
            put(c->fd, "R", 1);
        }
    }
    return used;
}

/* Each client has one message in flight, so the socket's send buffer always has room for its echo. */
static int serve_one(struct conn *c)
{
    ssize_t size = recv(c->fd, buffer, CHUNK, 0);
    if (size <= 0)
        return size < 0 && (errno == EAGAIN || errno == EINTR);
    size_t used = c->state == OPENING ? open_with(c, buffer, (size_t)size) : 0;
    size_t rest = (size_t)size - used;
    if (c->state == ECHOING && rest)
        return send(c->fd, buffer + used, rest, MSG_NOSIGNAL) == (ssize_t)rest;
    if (c->state == SWALLOWING && rest)
        swallow(c, rest);
    return 1;
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        no_delay(fd);
        watch(c, EPOLLIN);
    }
}

static void serve(int port)
{
    int on = 1;
    struct sockaddr_in at = loopback(port);
    struct conn listener = {.fd = socket(AF_INET, SOCK_STREAM, 0)}, orders = {.fd = 0};
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener.fd, (struct sockaddr *)&at, sizeof at) || listen(listener.fd, 4096))
        fail("can't listen on port %d", port);
    watch(&listener, EPOLLIN);
    watch(&orders, EPOLLIN);
    puts("ready");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == &orders)
                return;
            if (c == &listener)
                accept_all(listener.fd);
            else if (!serve_one(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}

/* ---- the clients ---- */

static int dial(int port)
{
    struct sockaddr_in at = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at))
        fail("can't connect to port %d", port);
    no_delay(fd);
    return fd;
}

static struct conn *open_all(int port, int count, const void *hello, size_t size, size_t answer)
{
    struct conn *all = calloc((size_t)count, sizeof *all);
    for (int first = 0; first < count; first += BATCH) {
        int last = first + BATCH < count ? first + BATCH : count;
        for (int i = first; i < last; i++)
            put(all[i].fd = dial(port), hello, size);
        for (int i = first; i < last; i++)
            expect(all[i].fd, answer);
    }
    return all;
}

static uint64_t wait_for_go(void)
{
    char line[16];
    puts("ready");
    if (!fgets(line, sizeof line, stdin))
        exit(0);
    return now_ns();
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void report(uint64_t began, size_t units, uint64_t bytes, uint64_t *latencies, size_t count)
{
    double seconds = (double)(now_ns() - began) / 1e9;
    printf("{\"units\": %zu, \"bytes\": %llu, \"seconds\": %.6f", units, (unsigned long long)bytes, seconds);
    if (count) {
        qsort(latencies, count, sizeof *latencies, by_size);
        printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f", (double)latencies[count / 2] / 1e6,
               (double)latencies[count * 99 / 100] / 1e6);
    }
    puts("}");
    while (getchar() != EOF)
        ;
}

/* Write as much as the socket takes. True when the server has confirmed that it received everything. */
static int pour(struct conn *c, int endless)
{
    while (endless || c->left) {
        size_t size = endless || c->left > CHUNK ? CHUNK : (size_t)c->left;
        ssize_t sent = send(c->fd, buffer, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return 0;
        if (sent < 0)
            fail("a bulk connection broke");
        c->left -= endless ? 0 : (uint64_t)sent;
    }
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &want);
    errno = 0;
    ssize_t got = recv(c->fd, buffer, 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        fail("a bulk connection ended before the server had it all");
    return got == 1;
}

static void bulk(int port, int count, uint64_t each)
{
    unsigned char hello[HEADER] = {'S'};
    for (int i = 1; i < HEADER; i++)
        hello[i] = (unsigned char)(each >> (8 * (HEADER - 1 - i)));
    struct conn *all = open_all(port, count, hello, sizeof hello, 1);
    uint64_t began = wait_for_go();
    for (int i = 0; i < count; i++) {
        all[i].left = each;
        watch(&all[i], EPOLLOUT);
    }
    for (int done = 0; done < count;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++)
            done += pour(events[i].data.ptr, each == 0);
    }
    report(began, (size_t)count, each * (uint64_t)count, NULL, 0);
}

static void ask(struct conn *c, size_t size)
{
    c->got = 0;
    c->began = now_ns();
    put(c->fd, buffer, size);
}

/* True when the whole echo has arrived. */
static int answered(struct conn *c, size_t size)
{
    errno = 0;
    ssize_t got = recv(c->fd, buffer, size - c->got, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        fail("a connection ended before its answer was whole");
    c->got += got > 0 ? (size_t)got : 0;
    return c->got == size;
}

static void pingpong(int port, int count, size_t messages, size_t size, double limit_s)
{
    unsigned char hello[1 + HELLO] = {'E'};
    struct conn *all = open_all(port, count, hello, sizeof hello, HELLO);
    uint64_t *latencies = calloc(messages, sizeof *latencies), began = wait_for_go();
    uint64_t deadline = began + (uint64_t)(limit_s * 1e9);
    size_t asked = 0, done = 0;
    for (int i = 0; i < count && asked < messages; i++, asked++) {
        watch(&all[i], EPOLLIN);
        ask(&all[i], size);
    }
    while (done < asked) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (!answered(c, size))
                continue;
            uint64_t now = now_ns();
            latencies[done++] = now - c->began;
            if (asked < messages && now < deadline) {
                asked++;
                ask(c, size);
            }
        }
    }
    report(began, done, 2 * done * size, latencies, done);
}

static void knock(struct conn *c, int port)
{
    c->got = 0;
    c->began = now_ns();
    put(c->fd = dial(port), memset(buffer, 'E', 1 + HELLO), 1 + HELLO);
    watch(c, EPOLLIN);
}

static void connect_rate(int port, int concurrency, size_t total)
{
    struct conn *all = calloc((size_t)concurrency, sizeof *all);
    uint64_t *latencies = calloc(total, sizeof *latencies), began = wait_for_go();
    size_t asked = 0, done = 0;
    for (; asked < (size_t)concurrency && asked < total; asked++)
        knock(&all[asked], port);
    while (done < total) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (!answered(c, HELLO))
                continue;
            latencies[done++] = now_ns() - c->began;
            close(c->fd);
            if (asked < total) {
                asked++;
                knock(c, port);
            }
        }
    }
    report(began, done, 2 * done * HELLO, latencies, done);
}

static void idle(int port, int count)
{
    unsigned char hello[1 + HELLO] = {'E'};
    open_all(port, count, hello, sizeof hello, HELLO);
    report(wait_for_go(), (size_t)count, 0, NULL, 0);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    double number[6] = {0};
    for (int i = 2; i < argc && i < 8; i++)
        number[i - 2] = atof(argv[i]);
    int port = (int)number[0], count = (int)number[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    poller = epoll_create1(0);
    if (strcmp(mode, "serve"))
        alarm(LIMIT_S); /* end the run if a proxy hangs */
    if (!strcmp(mode, "serve") && argc == 3)
        serve(port);
    else if (!strcmp(mode, "bulk") && argc == 5)
        bulk(port, count, (uint64_t)number[2]);
    else if (!strcmp(mode, "pingpong") && argc == 7)
        pingpong(port, count, (size_t)number[2], (size_t)number[3], number[4]);
    else if (!strcmp(mode, "connect") && argc == 5)
        connect_rate(port, count, (size_t)number[2]);
    else if (!strcmp(mode, "idle") && argc == 4)
        idle(port, count);
    else {
        fputs("load: serve PORT | bulk PORT N BYTES | pingpong PORT N MESSAGES SIZE SECONDS"
              " | connect PORT N TOTAL | idle PORT N\n", stderr);
        return 2;
    }
    return 0;
}
