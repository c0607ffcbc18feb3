/*
 * A JVM's debug agent and a debugger, as far as a proxy can tell them from real ones: handshakes, framed commands and
 * replies. In C, so that what is measured is what is between the two.
 *
 *   load serve PORT                  answer on 127.0.0.1:PORT for ever
 *   load trip PORT COUNT             one command after the other       -> microseconds: p50 p99
 *   load bulk PORT COUNT SIZE        COUNT replies of SIZE bytes       -> MiB/s
 *   load connect PORT COUNT          connect, shake hands, first reply -> microseconds: p50 p99
 *   load many PORT SESSIONS SECONDS  one command under way in each of the connections to PORT, PORT+1, ... -> commands/s
 *   load hold PORT SESSIONS          attach to PORT, PORT+1, ..., say "held", stay until standard input ends
 *
 * A command is 32 bytes, ObjectReference.GetValues by its number; its payload begins with how many bytes the reply has.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND = 32, HEADER = 11, HELLO = 14, UNDER_WAY = 4, MOST = 1 << 20, SESSIONS = 4096 };
static const char hello[] = "JDWP-Handshake";
static char block[MOST];

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* 0 at the end of the stream. */
static int take(int fd, char *into, size_t n) {
  for (size_t have = 0; have < n;) {
    ssize_t got = recv(fd, into + have, n - have, 0);
    if (got <= 0) return 0;
    have += got;
  }
  return 1;
}

static int give(int fd, const char *from, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t sent = send(fd, from + done, n - done, MSG_NOSIGNAL);
    if (sent <= 0) return 0;
    done += sent;
  }
  return 1;
}

static void put32(char *at, uint32_t value) { value = htonl(value); memcpy(at, &value, 4); }
static uint32_t get32(const char *at) { uint32_t value; memcpy(&value, at, 4); return ntohl(value); }

static struct sockaddr_in at_port(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

/* One whole message of a connection: the handshake, or a command and its reply. 0: it ended. */
static int answer(int fd, char *greeted) {
  char command[COMMAND];
  if (!*greeted) {
    *greeted = 1;
    return take(fd, command, HELLO) && give(fd, hello, HELLO);
  }
  if (!take(fd, command, COMMAND)) return 0;
  uint32_t size = get32(command + HEADER);
  if (size < HEADER || size > MOST) return 0;
  put32(block, size);
  memcpy(block + 4, command + 4, 4);
  memcpy(block + 8, "\x80\0\0", 3);
  return give(fd, block, size);
}

static void serve(int port) {
  static char greeted[SESSIONS * 4];
  struct sockaddr_in address = at_port(port);
  int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) die("listen");
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(poller, ready, 64, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        if ((fd = accept(listener, NULL, NULL)) < 0) die("accept");
        greeted[no_delay(fd)] = 0;
        event.data.fd = fd;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
      } else if (!answer(fd, &greeted[fd])) {
        close(fd);
      }
    }
  }
}

static int attach(int port) {
  struct sockaddr_in address = at_port(port);
  char greeting[HELLO];
  int fd = no_delay(socket(AF_INET, SOCK_STREAM, 0));
  if (connect(fd, (void *)&address, sizeof address)) die("connect");
  if (!give(fd, hello, HELLO) || !take(fd, greeting, HELLO) || memcmp(hello, greeting, HELLO)) die("handshake");
  return fd;
}

static void ask(int fd, uint32_t id, uint32_t size) {
  char command[COMMAND] = {0};
  put32(command, COMMAND);
  put32(command + 4, id);
  command[9] = 9, command[10] = 2;
  put32(command + HEADER, size);
  if (!give(fd, command, COMMAND)) die("ask");
}

static void reply(int fd, uint32_t id, uint32_t size) {
  if (!take(fd, block, size)) die("reply");
  if (get32(block) != size || get32(block + 4) != id) { fprintf(stderr, "not the reply to %u\n", id); exit(1); }
}

static int compare(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }

static void print_times(double *took, int count) {
  qsort(took, count, sizeof *took, compare);
  printf("%.1f %.1f\n", took[count / 2], took[count * 99 / 100]);
}

static void trip(int port, int count) {
  int fd = attach(port), warm = count / 20;
  double *took = calloc(count, sizeof *took);
  for (int i = -warm; i < count; i++) {
    double begun = now();
    ask(fd, i, COMMAND);
    reply(fd, i, COMMAND);
    if (i >= 0) took[i] = now() - begun;
  }
  print_times(took, count);
}

static void bulk(int port, int count, int size) {
  int fd = attach(port);
  double begun = now();
  for (int i = 0; i < count + UNDER_WAY; i++) {
    if (i < count) ask(fd, i, size);
    if (i >= UNDER_WAY) reply(fd, i - UNDER_WAY, size);
  }
  printf("%.1f\n", (double)count * size / (1 << 20) / ((now() - begun) / 1e6));
}

static void connects(int port, int count) {
  double *took = calloc(count, sizeof *took);
  for (int i = 0; i < count; i++) {
    double begun = now();
    int fd = attach(port);
    ask(fd, i, COMMAND);
    reply(fd, i, COMMAND);
    took[i] = now() - begun;
    /* As a debugger does: it ends, and sees the other side go before somebody comes back. */
    shutdown(fd, SHUT_WR);
    take(fd, block, 1);
    close(fd);
  }
  print_times(took, count);
}

static void many(int port, int sessions, double seconds) {
  static struct pollfd fds[SESSIONS];
  static uint32_t ids[SESSIONS];
  long done = 0;
  for (int i = 0; i < sessions; i++) {
    fds[i] = (struct pollfd){.fd = attach(port + i), .events = POLLIN};
    ask(fds[i].fd, 0, COMMAND);
  }
  double begun = now(), until = begun + seconds * 1e6;
  while (now() < until) {
    poll(fds, sessions, -1);
    for (int i = 0; i < sessions; i++) {
      if (!fds[i].revents) continue;
      reply(fds[i].fd, ids[i]++, COMMAND);
      ask(fds[i].fd, ids[i], COMMAND);
      done++;
    }
  }
  printf("%.0f\n", done / ((now() - begun) / 1e6));
}

static void hold(int port, int sessions) {
  for (int i = 0; i < sessions; i++) {
    int fd = attach(port + i);
    ask(fd, i, COMMAND);
    reply(fd, i, COMMAND);
  }
  puts("held");
  fflush(stdout);
  while (read(0, block, sizeof block) > 0) {}
}

int main(int argc, char **argv) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const char *verb = argc > 2 ? argv[1] : "";
  int port = argc > 2 ? atoi(argv[2]) : 0;
  int first = argc > 3 ? atoi(argv[3]) : 0, second = argc > 4 ? atoi(argv[4]) : 0;
  if (!strcmp(verb, "serve")) serve(port);
  else if (!strcmp(verb, "trip")) trip(port, first);
  else if (!strcmp(verb, "bulk")) bulk(port, first, second);
  else if (!strcmp(verb, "connect")) connects(port, first);
  else if (!strcmp(verb, "many")) many(port, first, second);
  else if (!strcmp(verb, "hold")) hold(port, first);
  else { fprintf(stderr, "see the head of load.c\n"); return 2; }
  return 0;
}
