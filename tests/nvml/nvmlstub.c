/* nvmlstub.c - a fake libnvidia-ml.so.1 driven by a text file, for tests without a GPU.
 *
 *   gcc -shared -fPIC -O1 -Wall -Wextra -pthread -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvmlstub.c
 *   NVML_STUB_STATE=state.txt LD_LIBRARY_PATH=$PWD nvitop -1
 *
 * State file (re-read whenever its mtime, size or inode changes; write a new file and
 * rename it over the old one).  One record per line, '#' starts a comment line, values with
 * spaces in double quotes, all keys optional:
 *   driver version=550.54.15 cuda=12040 init_error=0
 *   gpu uuid=GPU-... name="NVIDIA ..." total=81920 used=0 reserved=0 util=0 memutil=0 temp=30
 *       power=60 powerlimit=400 mode=0 minor=0 bus=7 mig=0 error=0 procs=PID:MiB,PID:MiB gprocs=PID:MiB
 *   mig parent=0 gi=1 ci=0 uuid=MIG-... name="..." total=9856 used=0 procs=PID:MiB
 * Memory is in MiB, power in W.  gpu lines are numbered 0,1,2... in order; mig lines belong to
 * the gpu whose number is parent= (that gpu needs mig=1).  used=auto: sum of its live processes.
 * Processes that are not alive are left out, as the driver does.  mode: 0 default, 2 prohibited,
 * 3 exclusive process.  error=N: every per-device query of that gpu returns N (15 = GPU is lost).
 * init_error=N: nvmlInit returns N (18 = library and driver differ).  procs_error=N: only the
 * process queries of that gpu return N (4 = no permission).  nov2=1: no memory query v2, as in old
 * drivers.  sensors_error=N: only temperature and power return N.  A process memory of N/A (PID:na) is reported as not available.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAXDEV 64
#define MAXMIG 7
#define MAXPROC 256
enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };
#define API __attribute__((visibility("default"))) int
typedef unsigned int u32;
typedef unsigned long long u64;

#define NA (~0ull)
struct proc { u32 pid; u64 mib; };
struct dev {
    int is_mig, index, parent, gi, ci, auto_used;
    char uuid[96], name[96];
    u64 total, used, reserved;
    u32 util, memutil, temp, power, powerlimit, mode, minor, bus, mig, error, procs_error, sensors_error, nov2;
    int nproc, ngproc;
    struct proc proc[MAXPROC], gproc[MAXPROC];
};
typedef struct dev *dev_t_;

static struct dev devs[MAXDEV];                  /* a handle is a pointer into one of these: */
static struct dev migs[MAXDEV][MAXMIG];          /* stable over reloads                      */
static int ndev, nmig[MAXDEV], inits, init_error, cuda = 12040;
static char driver[80] = "550.54.15";
static struct stat seen;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

static int field(const char *line, const char *key, char *out, size_t n) {
    size_t k = strlen(key);
    int quoted = 0;
    for (const char *p = line; *p; p++) {
        if (*p == '"') { quoted = !quoted; continue; }
        if (quoted || p == line || (p[-1] != ' ' && p[-1] != '\t')) continue;
        if (strncmp(p, key, k) || p[k] != '=') continue;
        p += k + 1;
        const char *stop = *p == '"' ? (p++, "\"\n") : " \t\r\n";
        size_t len = strcspn(p, stop);
        if (len >= n) len = n - 1;
        memcpy(out, p, len);
        out[len] = 0;
        return 1;
    }
    return 0;
}
static u64 num(const char *line, const char *key, u64 dflt) {
    char b[64];
    return field(line, key, b, sizeof b) ? strtoull(b, NULL, 0) : dflt;
}
static int procs(const char *line, const char *key, struct proc *out) {
    char b[8192], *save = NULL;
    int n = 0;
    if (!field(line, key, b, sizeof b)) return 0;
    for (char *t = strtok_r(b, ",", &save); t && n < MAXPROC; t = strtok_r(NULL, ",", &save)) {
        out[n].pid = strtoul(t, &t, 10);
        out[n].mib = *t != ':' ? 0 : !strncmp(t + 1, "na", 2) ? NA : strtoull(t + 1, NULL, 10);
        if (out[n].pid) n++;
    }
    return n;
}
static void parse(struct dev *d, const char *line) {
    char b[32] = "";
    field(line, "uuid", d->uuid, sizeof d->uuid);
    field(line, "name", d->name, sizeof d->name);
    d->total = num(line, "total", d->total);
    field(line, "used", b, sizeof b);
    d->auto_used = !strcmp(b, "auto");
    d->used = strtoull(b, NULL, 10);
    d->reserved = num(line, "reserved", 0);
    d->util = num(line, "util", 0);
    d->memutil = num(line, "memutil", 0);
    d->temp = num(line, "temp", 30);
    d->power = num(line, "power", 60);
    d->powerlimit = num(line, "powerlimit", 400);
    d->mode = num(line, "mode", 0);
    d->minor = num(line, "minor", d->minor);
    d->bus = num(line, "bus", d->bus);
    d->mig = num(line, "mig", 0);
    d->error = num(line, "error", 0);
    d->procs_error = num(line, "procs_error", 0);
    d->sensors_error = num(line, "sensors_error", 0);
    d->nov2 = num(line, "nov2", 0);
    d->nproc = procs(line, "procs", d->proc);
    d->ngproc = procs(line, "gprocs", d->gproc);
}
static int load(void) {                          /* with mu held */
    const char *path = getenv("NVML_STUB_STATE");
    struct stat st;
    if (!path || stat(path, &st)) return DRIVER_NOT_LOADED;
    if (st.st_ino == seen.st_ino && st.st_size == seen.st_size &&
        st.st_mtim.tv_sec == seen.st_mtim.tv_sec && st.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) return OK;
    FILE *f = fopen(path, "re");
    if (!f) return DRIVER_NOT_LOADED;
    char *line = NULL;
    size_t cap = 0;
    ndev = 0;
    init_error = 0;
    memset(nmig, 0, sizeof nmig);
    while (getline(&line, &cap, f) > 0) {
        if (!strncmp(line, "driver ", 7)) {
            field(line, "version", driver, sizeof driver);
            cuda = num(line, "cuda", cuda);
            init_error = num(line, "init_error", 0);
        } else if (!strncmp(line, "gpu ", 4) && ndev < MAXDEV) {
            struct dev *d = &devs[ndev];
            memset(d, 0, sizeof *d);
            d->index = d->parent = d->minor = ndev;
            d->bus = 7 + 8 * ndev;
            d->total = 81920;
            d->gi = d->ci = -1;
            snprintf(d->uuid, sizeof d->uuid, "GPU-00000000-0000-4000-8000-%012d", ndev);
            snprintf(d->name, sizeof d->name, "NVIDIA A100-SXM4-80GB");
            parse(d, line);
            ndev++;
        } else if (!strncmp(line, "mig ", 4)) {
            u64 p = num(line, "parent", 0);
            if (p >= MAXDEV || nmig[p] >= MAXMIG) continue;
            struct dev *d = &migs[p][nmig[p]];
            memset(d, 0, sizeof *d);
            d->is_mig = 1;
            d->index = nmig[p]++;
            d->parent = p;
            d->total = 9856;
            d->gi = num(line, "gi", d->index + 1);
            d->ci = num(line, "ci", 0);
            snprintf(d->uuid, sizeof d->uuid, "MIG-00000000-0000-4000-8000-%06d%06d", (int)p, d->index);
            snprintf(d->name, sizeof d->name, "NVIDIA A100-SXM4-80GB MIG 1g.10gb");
            parse(d, line);
        }
    }
    free(line);
    fclose(f);
    seen = st;
    return OK;
}
static int alive(u32 pid) { return kill((pid_t)pid, 0) == 0 || errno == EPERM; }

static int known(dev_t_ d) {
    if (d >= devs && d < devs + MAXDEV) return d - devs < ndev;
    struct dev *m = &migs[0][0];
    if (d >= m && d < m + MAXDEV * MAXMIG) { int p = (d - m) / MAXMIG; return p < ndev && (d - m) % MAXMIG < nmig[p]; }
    return 0;
}
static void unlock(int *unused) { (void)unused; pthread_mutex_unlock(&mu); }
#define LOCKED __attribute__((cleanup(unlock), unused)) int guard_ = pthread_mutex_lock(&mu)
#define BEGIN LOCKED; do { if (!inits) return UNINITIALIZED; int r_ = load(); if (r_) return r_; } while (0)
#define DEV(d) BEGIN; do { if (!known(d)) return INVALID_ARGUMENT; \
        u32 e_ = devs[(d)->parent].error; if (e_) return e_; } while (0)
static int put(const char *s, char *out, u32 n) {
    if (!out) return INVALID_ARGUMENT;
    if (strlen(s) >= n) return INSUFFICIENT_SIZE;
    strcpy(out, s);
    return OK;
}

/* ---- library ---- */
static int init(void) { LOCKED; int r = load(); if (!r) r = init_error; if (!r) inits++; return r; }
API nvmlInit_v2(void) { return init(); }
API nvmlInit(void) { return init(); }
API nvmlInitWithFlags(u32 flags) { (void)flags; return init(); }
API nvmlShutdown(void) { LOCKED; if (!inits) return UNINITIALIZED; inits--; return OK; }
__attribute__((visibility("default"))) const char *nvmlErrorString(int r) {
    switch (r) {
    case OK: return "The operation was successful";
    case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case INVALID_ARGUMENT: return "A supplied argument is invalid";
    case NOT_SUPPORTED: return "The requested operation is not available on target device";
    case NOT_FOUND: return "A query to find an object was unsuccessful";
    case INSUFFICIENT_SIZE: return "An input argument is not large enough";
    case DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
    case GPU_IS_LOST: return "The GPU has fallen off the bus or has otherwise become inaccessible";
    case VERSION_MISMATCH: return "The structure version is not supported";
    default: return "Unknown error";
    }
}
API nvmlSystemGetDriverVersion(char *v, u32 n) { BEGIN; return put(driver, v, n); }
API nvmlSystemGetNVMLVersion(char *v, u32 n) { BEGIN; char b[96]; snprintf(b, sizeof b, "12.%s", driver); return put(b, v, n); }
API nvmlSystemGetCudaDriverVersion_v2(int *v) { BEGIN; *v = cuda; return OK; }
API nvmlSystemGetCudaDriverVersion(int *v) { BEGIN; *v = cuda; return OK; }
API nvmlSystemGetProcessName(u32 pid, char *name, u32 n) {
    BEGIN;
    char p[64], b[4096];
    snprintf(p, sizeof p, "/proc/%u/cmdline", pid);
    FILE *f = fopen(p, "re");
    if (!f) return NOT_FOUND;
    size_t k = fread(b, 1, sizeof b - 1, f);
    fclose(f);
    b[k] = 0;
    return put(b, name, n);
}

/* ---- enumeration ---- */
API nvmlDeviceGetCount_v2(u32 *n) { BEGIN; *n = ndev; return OK; }
API nvmlDeviceGetCount(u32 *n) { BEGIN; *n = ndev; return OK; }
API nvmlDeviceGetHandleByIndex_v2(u32 i, dev_t_ *d) {
    BEGIN;
    if (i >= (u32)ndev) return INVALID_ARGUMENT;
    if (devs[i].error == GPU_IS_LOST) return GPU_IS_LOST;
    *d = &devs[i];
    return OK;
}
API nvmlDeviceGetHandleByUUID(const char *uuid, dev_t_ *d) {
    BEGIN;
    for (int i = 0; i < ndev; i++) {
        if (!strcmp(devs[i].uuid, uuid)) { *d = &devs[i]; return OK; }
        for (int j = 0; j < nmig[i]; j++) if (!strcmp(migs[i][j].uuid, uuid)) { *d = &migs[i][j]; return OK; }
    }
    return NOT_FOUND;
}
static void busid(struct dev *d, char *out, size_t n, int digits) { snprintf(out, n, "%0*X:%02X:00.0", digits, 0, d->bus & 0xff); }
API nvmlDeviceGetHandleByPciBusId_v2(const char *id, dev_t_ *d) {
    BEGIN;
    for (int i = 0; i < ndev; i++) {
        char a[32], b[32];
        busid(&devs[i], a, sizeof a, 8); busid(&devs[i], b, sizeof b, 4);
        if (!strcasecmp(a, id) || !strcasecmp(b, id)) { *d = &devs[i]; return OK; }
    }
    return NOT_FOUND;
}
API nvmlDeviceGetUUID(dev_t_ d, char *out, u32 n) { DEV(d); return put(d->uuid, out, n); }
API nvmlDeviceGetName(dev_t_ d, char *out, u32 n) { DEV(d); return put(d->name, out, n); }
API nvmlDeviceGetIndex(dev_t_ d, u32 *i) { DEV(d); *i = d->index; return OK; }
API nvmlDeviceGetMinorNumber(dev_t_ d, u32 *i) { DEV(d); if (d->is_mig) return NOT_SUPPORTED; *i = d->minor; return OK; }
struct pci { char legacy[16]; u32 domain, bus, device, devid, subsys; char id[32]; };
API nvmlDeviceGetPciInfo_v3(dev_t_ d, struct pci *p) {
    DEV(d);
    struct dev *g = &devs[d->parent];
    memset(p, 0, sizeof *p);
    p->bus = g->bus; p->devid = 0x20B210DE; p->subsys = 0x147F10DE;
    busid(g, p->legacy, sizeof p->legacy, 4);
    busid(g, p->id, sizeof p->id, 8);
    return OK;
}

/* ---- memory, load, sensors ---- */
static u64 used(struct dev *d) {
    if (!d->auto_used) return d->used;
    u64 s = 0;
    for (int i = 0; i < d->nproc; i++) if (alive(d->proc[i].pid) && d->proc[i].mib != NA) s += d->proc[i].mib;
    for (int i = 0; i < d->ngproc; i++) if (alive(d->gproc[i].pid)) s += d->gproc[i].mib;
    if (!d->is_mig) for (int j = 0; j < nmig[d->index]; j++) s += used(&migs[d->index][j]);
    return s;
}
struct mem1 { u64 total, free, used; };
struct mem2 { u32 version; u64 total, reserved, free, used; };
API nvmlDeviceGetMemoryInfo(dev_t_ d, struct mem1 *m) {      /* v1 counts reserved as used */
    DEV(d);
    u64 u = used(d) + d->reserved;
    m->total = d->total << 20; m->used = u << 20; m->free = (d->total > u ? d->total - u : 0) << 20;
    return OK;
}
API nvmlDeviceGetMemoryInfo_v2(dev_t_ d, struct mem2 *m) {
    DEV(d);
    if (devs[d->parent].nov2) return NOT_SUPPORTED;
    if (m->version != (sizeof *m | 2u << 24)) return VERSION_MISMATCH;
    u64 u = used(d), x = u + d->reserved;
    m->total = d->total << 20; m->reserved = d->reserved << 20; m->used = u << 20;
    m->free = (d->total > x ? d->total - x : 0) << 20;
    return OK;
}
struct util { u32 gpu, memory; };
API nvmlDeviceGetUtilizationRates(dev_t_ d, struct util *u) {
    DEV(d);
    if (d->is_mig || d->mig) return NOT_SUPPORTED;           /* as with MIG mode on */
    u->gpu = d->util; u->memory = d->memutil;
    return OK;
}
#define SENSOR(d) DEV(d); do { if (devs[(d)->parent].sensors_error) return devs[(d)->parent].sensors_error; } while (0)
API nvmlDeviceGetTemperature(dev_t_ d, u32 sensor, u32 *t) { SENSOR(d); if (sensor) return INVALID_ARGUMENT; *t = devs[d->parent].temp; return OK; }
struct temp1 { u32 version, sensor; int t; };
API nvmlDeviceGetTemperatureV(dev_t_ d, struct temp1 *t) {
    DEV(d);
    if (t->version != (sizeof *t | 1u << 24)) return VERSION_MISMATCH;
    t->t = devs[d->parent].temp;
    return OK;
}
API nvmlDeviceGetPowerUsage(dev_t_ d, u32 *mw) { SENSOR(d); if (d->is_mig) return NOT_SUPPORTED; *mw = d->power * 1000; return OK; }
API nvmlDeviceGetEnforcedPowerLimit(dev_t_ d, u32 *mw) { SENSOR(d); if (d->is_mig) return NOT_SUPPORTED; *mw = d->powerlimit * 1000; return OK; }
API nvmlDeviceGetPowerManagementLimit(dev_t_ d, u32 *mw) { DEV(d); if (d->is_mig) return NOT_SUPPORTED; *mw = d->powerlimit * 1000; return OK; }
API nvmlDeviceGetFanSpeed(dev_t_ d, u32 *v) { DEV(d); (void)v; return NOT_SUPPORTED; }
API nvmlDeviceGetPerformanceState(dev_t_ d, u32 *v) { DEV(d); *v = 0; return OK; }
API nvmlDeviceGetPersistenceMode(dev_t_ d, u32 *v) { DEV(d); *v = 1; return OK; }
API nvmlDeviceGetDisplayActive(dev_t_ d, u32 *v) { DEV(d); *v = 0; return OK; }
API nvmlDeviceGetDisplayMode(dev_t_ d, u32 *v) { DEV(d); *v = 0; return OK; }
API nvmlDeviceGetEncoderUtilization(dev_t_ d, u32 *v, u32 *us) { DEV(d); *v = 0; *us = 167000; return OK; }
API nvmlDeviceGetDecoderUtilization(dev_t_ d, u32 *v, u32 *us) { DEV(d); *v = 0; *us = 167000; return OK; }
API nvmlDeviceGetComputeMode(dev_t_ d, u32 *v) { DEV(d); *v = devs[d->parent].mode; return OK; }
API nvmlDeviceGetCudaComputeCapability(dev_t_ d, int *a, int *b) { DEV(d); *a = 8; *b = 0; return OK; }

/* ---- processes (the _v2 and _v3 structs are the same) ---- */
struct pinfo { u32 pid; u64 used; u32 gi, ci; };
static int add(struct dev *d, int graphics, u32 cap, struct pinfo *out, u32 n) {
    struct proc *p = graphics ? d->gproc : d->proc;
    int k = graphics ? d->ngproc : d->nproc;
    for (int i = 0; i < k; i++) {
        if (!alive(p[i].pid)) continue;
        if (out && n < cap) out[n] = (struct pinfo){ p[i].pid, p[i].mib == NA ? NA : p[i].mib << 20, d->gi, d->ci };
        n++;
    }
    return n;
}
static int list(struct dev *d, int graphics, u32 *count, struct pinfo *out) {
    DEV(d);
    if (devs[d->parent].procs_error) return devs[d->parent].procs_error;
    u32 n = add(d, graphics, *count, out, 0);
    if (!d->is_mig && d->mig) for (int j = 0; j < nmig[d->index]; j++) n = add(&migs[d->index][j], graphics, *count, out, n);
    int r = n > *count ? INSUFFICIENT_SIZE : OK;
    *count = n;
    return r;
}
API nvmlDeviceGetComputeRunningProcesses_v3(dev_t_ d, u32 *n, struct pinfo *o) { return list(d, 0, n, o); }
API nvmlDeviceGetComputeRunningProcesses_v2(dev_t_ d, u32 *n, struct pinfo *o) { return list(d, 0, n, o); }
API nvmlDeviceGetGraphicsRunningProcesses_v3(dev_t_ d, u32 *n, struct pinfo *o) { return list(d, 1, n, o); }
API nvmlDeviceGetGraphicsRunningProcesses_v2(dev_t_ d, u32 *n, struct pinfo *o) { return list(d, 1, n, o); }
API nvmlDeviceGetMPSComputeRunningProcesses_v3(dev_t_ d, u32 *n, struct pinfo *o) { DEV(d); (void)o; *n = 0; return OK; }

/* ---- MIG ---- */
API nvmlDeviceGetMigMode(dev_t_ d, u32 *cur, u32 *pend) { DEV(d); if (d->is_mig) return NOT_SUPPORTED; *cur = *pend = d->mig; return OK; }
API nvmlDeviceGetMaxMigDeviceCount(dev_t_ d, u32 *n) { DEV(d); if (d->is_mig) return INVALID_ARGUMENT; *n = MAXMIG; return OK; }
API nvmlDeviceGetMigDeviceHandleByIndex(dev_t_ d, u32 i, dev_t_ *m) {
    DEV(d);
    if (d->is_mig || i >= MAXMIG) return INVALID_ARGUMENT;
    if (!d->mig || i >= (u32)nmig[d->index]) return NOT_FOUND;
    *m = &migs[d->index][i];
    return OK;
}
API nvmlDeviceIsMigDeviceHandle(dev_t_ d, u32 *v) { DEV(d); *v = d->is_mig; return OK; }
API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(dev_t_ d, dev_t_ *p) { DEV(d); if (!d->is_mig) return INVALID_ARGUMENT; *p = &devs[d->parent]; return OK; }
API nvmlDeviceGetGpuInstanceId(dev_t_ d, u32 *v) { DEV(d); if (!d->is_mig) return NOT_SUPPORTED; *v = d->gi; return OK; }
API nvmlDeviceGetComputeInstanceId(dev_t_ d, u32 *v) { DEV(d); if (!d->is_mig) return NOT_SUPPORTED; *v = d->ci; return OK; }

/* ---- asked for by nvitop, absent on this hardware ---- */
#define ABSENT(name) API name(dev_t_ d, void *a, void *b, void *c) { (void)a; (void)b; (void)c; DEV(d); return NOT_SUPPORTED; }
ABSENT(nvmlDeviceGetDriverModel) ABSENT(nvmlDeviceGetDriverModel_v2)
ABSENT(nvmlDeviceGetTotalEccErrors) ABSENT(nvmlDeviceGetEccMode)
API nvmlDeviceGetBAR1MemoryInfo(dev_t_ d, struct mem1 *m) { DEV(d); m->total = 128ull << 30; m->used = 1ull << 20; m->free = m->total - m->used; return OK; }
ABSENT(nvmlDeviceGetClockInfo) ABSENT(nvmlDeviceGetMaxClockInfo)
ABSENT(nvmlDeviceGetPcieThroughput) ABSENT(nvmlDeviceGetProcessUtilization)
ABSENT(nvmlDeviceGetFieldValues) ABSENT(nvmlDeviceGetNvLinkState) ABSENT(nvmlDeviceGetSerial)
ABSENT(nvmlDeviceGetAttributes_v2) ABSENT(nvmlDeviceGetVbiosVersion)
