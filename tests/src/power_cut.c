/*
 * Keeps, beside a folder that a program writes to, what of it would survive a power cut.
 *
 * Loaded into the program (LD_PRELOAD). What a file holds survives when the file is synced; what a
 * folder lists survives when the folder is synced. HF_CUT_ROOT names the folder, HF_CUT_IMAGE where the
 * image goes: files/<inode> is a file's content, folders/<inode> a folder's list, one "inode kind name" a
 * line. Inodes are never used again while the program runs: what is unlinked keeps a second name, a folder
 * that is removed stays open. Only one watched program may run at a time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names that are longer than this do not occur; one that did would end the program. */
#define NAME 1024

static int inside(const char *path)
{
	const char *root = getenv("HF_CUT_ROOT");
	size_t n = root ? strlen(root) : 0;

	return n > 0 && strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* Copies a file through plain reads and writes; the last name appears only once all is there. */
static void keep_file(int fd, const struct stat *st)
{
	char to[NAME], part[NAME + 64], buffer[65536];
	off_t at = 0;
	ssize_t n;
	int out;

	snprintf(to, sizeof to, "%s/files/%lu", getenv("HF_CUT_IMAGE"), (unsigned long) st->st_ino);
	snprintf(part, sizeof part, "%s.%d.%d.part", to, (int) getpid(), (int) gettid());
	out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (out < 0)
		abort();
	/* The program's own descriptor may be for writing only. */
	snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", fd);
	fd = open(buffer, O_RDONLY);
	if (fd < 0)
		abort();
	while ((n = pread(fd, buffer, sizeof buffer, at)) > 0) {
		if (write(out, buffer, (size_t) n) != n)
			abort();
		at += n;
	}
	close(fd);
	close(out);
	if (n < 0 || rename(part, to) != 0)
		abort();
}

static void keep_folder(const char *path, const struct stat *st)
{
	char to[NAME], part[NAME + 64];
	struct dirent *entry;
	FILE *out;
	DIR *folder = opendir(path);

	if (!folder)
		abort();
	snprintf(to, sizeof to, "%s/folders/%lu", getenv("HF_CUT_IMAGE"), (unsigned long) st->st_ino);
	snprintf(part, sizeof part, "%s.%d.%d.part", to, (int) getpid(), (int) gettid());
	out = fopen(part, "w");
	if (!out)
		abort();
	while ((entry = readdir(folder))) {
		struct stat own;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dirfd(folder), entry->d_name, &own, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		fprintf(out, "%lu %c %s\n", (unsigned long) own.st_ino,
		        S_ISDIR(own.st_mode) ? 'd' : 'f', entry->d_name);
	}
	closedir(folder);
	if (fclose(out) != 0 || rename(part, to) != 0)
		abort();
}

/* A folder that is read before another change must not be noted after that change was. */
static pthread_mutex_t noting = PTHREAD_MUTEX_INITIALIZER;

static int sync_of(int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return -1;
	path[n] = 0;
	if (inside(path) && fstat(fd, &st) == 0) {
		pthread_mutex_lock(&noting);
		if (S_ISDIR(st.st_mode))
			keep_folder(path, &st);
		else
			keep_file(fd, &st);
		pthread_mutex_unlock(&noting);
	}
	return 0;
}

int fsync(int fd) { return sync_of(fd); }
int fdatasync(int fd) { return sync_of(fd); }

/* Nothing is known yet of a new folder; one that had its inode before was another one. */
int mkdir(const char *path, mode_t mode)
{
	static int (*next)(const char *, mode_t);
	char name[NAME], resolved[PATH_MAX];
	struct stat st;
	int made;

	if (!next)
		next = (int (*)(const char *, mode_t)) dlsym(RTLD_NEXT, "mkdir");
	pthread_mutex_lock(&noting);
	made = next(path, mode);
	if (made == 0 && realpath(path, resolved) && inside(resolved) && lstat(resolved, &st) == 0) {
		snprintf(name, sizeof name, "%s/folders/%lu", getenv("HF_CUT_IMAGE"), (unsigned long) st.st_ino);
		(void) remove(name);
	}
	pthread_mutex_unlock(&noting);
	return made;
}

/* A second name for what is about to lose its last one. */
static void keep_inode(const char *path)
{
	char name[NAME], resolved[PATH_MAX];
	struct stat st;
	static __thread unsigned count;

	if (!realpath(path, resolved) || !inside(resolved) || lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	snprintf(name, sizeof name, "%s/kept/%lu.%d.%u", getenv("HF_CUT_IMAGE"),
	         (unsigned long) st.st_ino, (int) gettid(), count++);
	if (link(path, name) != 0)
		abort();
}

int unlink(const char *path)
{
	static int (*next)(const char *);

	if (!next)
		next = (int (*)(const char *)) dlsym(RTLD_NEXT, "unlink");
	keep_inode(path);
	return next(path);
}

int rename(const char *from, const char *to)
{
	static int (*next)(const char *, const char *);

	if (!next)
		next = (int (*)(const char *, const char *)) dlsym(RTLD_NEXT, "rename");
	keep_inode(to);
	return next(from, to);
}

int rmdir(const char *path)
{
	static int (*next)(const char *);
	char resolved[PATH_MAX];

	if (!next)
		next = (int (*)(const char *)) dlsym(RTLD_NEXT, "rmdir");
	/* Never closed, so that its inode stays its own. */
	if (realpath(path, resolved) && inside(resolved)) {
		int held = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int removed = next(path);

		if (removed != 0 && held >= 0)
			close(held);
		return removed;
	}
	return next(path);
}
