// xstate: preloaded into linux.uml. UML 6.1 gives PTRACE_SETREGSET as much of the extended CPU state as it knows, and
// newer hosts take all of it or answer EFAULT: on a CPU with more (AMX) no process starts in a VM. Here
// the rest is added, as the process has it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...) {
	static long (*next)(int, ...);
	static char state[1 << 16]; // larger than any CPU's; UML has one CPU, so one caller
	va_list args;
	va_start(args, request);
	int pid = va_arg(args, int);
	void *addr = va_arg(args, void *), *data = va_arg(args, void *);
	va_end(args);
	if (!next) next = dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (long)addr != NT_X86_XSTATE) return next(request, pid, addr, data);
	struct iovec *known = data, all = {state, sizeof state};
	if (next(PTRACE_GETREGSET, pid, addr, &all)) return -1;
	if (all.iov_len <= known->iov_len) return next(request, pid, addr, data);
	memcpy(state, known->iov_base, known->iov_len);
	return next(request, pid, addr, &all);
}
