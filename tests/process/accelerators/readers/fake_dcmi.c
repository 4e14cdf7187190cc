/* A libdcmi whose answers stand in the environment: FAKE_DCMI is a list of `name=value` separated by blanks.
 *
 * refuse=1              version 1 of the interface refuses every call; which versions there are is said when it is compiled
 * health, code (hexadecimal, 0 for none), power (tenths of a watt), single, double, aggregate, pending, temperature, network
 * fail=NAME             that function answers -8005; lack=NAME: -8255; hang=NAME: it never answers; crash=NAME
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long setting(const char *name, long otherwise, int base) {
    const char *all = getenv("FAKE_DCMI");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s=", name);
    const char *found = all ? strstr(all, wanted) : NULL;
    return found ? strtol(found + strlen(wanted), NULL, base) : otherwise;
}

static int is_set(const char *what, const char *name) {
    const char *all = getenv("FAKE_DCMI");
    char wanted[96];
    snprintf(wanted, sizeof wanted, "%s=%s", what, name);
    const char *found = all ? strstr(all, wanted) : NULL;
    return found && (found[strlen(wanted)] == ' ' || found[strlen(wanted)] == 0);
}

static int before(const char *name, int version) {
    if (version == 1 && setting("refuse", 0, 10)) return -8255;
    if (is_set("hang", name)) for (;;) pause();
    if (is_set("crash", name)) abort();
    if (is_set("fail", name)) return -8005;
    if (is_set("lack", name)) return -8255;
    return 0;
}

struct chip { char type[32], name[32], ver[32]; unsigned cores; char npu[32]; };
struct pcie { unsigned vendor, subvendor, device, subdevice; int domain; unsigned bus, dev, func; char reserve[32]; };
struct ecc { int on; unsigned single, two, all_single, all_two, pages_single, pages_two, next_single, next_two; };
struct hbm { unsigned long long size; unsigned freq; unsigned long long used; int temp; unsigned bandwidth; };
struct process { int pid; unsigned long bytes; };
struct die { unsigned part[5]; };
struct label { char product[256], model[256], maker[256], date[256], serial[256]; };
struct hccs { unsigned long long tx[16], rx[16], crc[16], retry[16], reserved[64]; };

static int health(const char *n, int v, unsigned *out) { int r = before(n, v); *out = setting("health", 0, 10); return r; }
static int codes(const char *n, int v, int *count, unsigned *list) {
    int r = before(n, v);
    const char *all = getenv("FAKE_DCMI"), *found = all ? strstr(all, "code=") : NULL;
    *count = 0;
    for (char *at = found ? (char *)found + 5 : NULL; at && *at && *at != ' ';) {
        unsigned long code = strtoul(at, &at, 16);
        if (code) list[(*count)++] = code;
        if (*at != ',') break;
        at++;
    }
    *count = setting("count", *count, 10);
    return r;
}
static int chip(const char *n, int v, struct chip *out) {
    int r = before(n, v);
    strcpy(out->type, "Ascend"); strcpy(out->name, v == 2 ? "Ascend950PR" : "910B3"); strcpy(out->ver, "V1");
    return r;
}
static int pcie(const char *n, int v, int number, struct pcie *out) {
    int r = before(n, v);
    memset(out, 0, sizeof *out);
    out->vendor = 0x19e5; out->bus = 0xc1 + number;
    return r;
}
static int ecc(const char *n, int v, int kind, struct ecc *out) {
    int r = before(n, v);
    memset(out, 0, sizeof *out);
    if (kind != 2) return r ? r : -8255;
    out->on = setting("ecc", 1, 10); out->single = setting("single", 0, 10); out->two = setting("double", 0, 10);
    out->all_two = setting("aggregate", 0, 10); out->next_two = setting("pending", 0, 10);
    return r;
}
static int hbm(const char *n, int v, struct hbm *out) {
    int r = before(n, v);
    out->size = v == 2 ? 131072 : 65536; out->freq = 1600; out->used = 3314; out->temp = 40;
    return r;
}
static int one(const char *n, int v, int *out, const char *name, int otherwise) {
    int r = before(n, v); *out = setting(name, otherwise, 10); return r;
}
static int processes(const char *n, int v, struct process *out, int *count) {
    int r = before(n, v); out[0].pid = 4711; out[0].bytes = 30780ul << 20; *count = 1; return r;
}
static int die(const char *n, int v, int number, struct die *out) {
    int r = before(n, v);
    for (int i = 0; i < 5; i++) out->part[i] = 0x1000 * (number + 1) + i;
    return r;
}
static int label(const char *n, int v, struct label *out) { int r = before(n, v); memset(out, 0, sizeof *out); strcpy(out->serial, "NA"); return r; }
static int info(const char *n, int v, int main_command, unsigned sub, struct hccs *out) {
    int r = before(n, v);
    if (main_command != 16 || sub != 5) return -8001;
    memset(out, 0, sizeof *out); out->crc[3] = setting("crc", 0, 10); out->retry[0] = 7;
    return r;
}
static int text(const char *n, int v, char *out, const char *what) { int r = before(n, v); strcpy(out, what); return r; }

#ifdef VERSION_1
int dcmi_init(void) { return before("init", 1); }
int dcmi_get_card_list(int *count, int *list, int length) { int r = before("list", 1); *count = 2; list[0] = 0; list[1] = 1; return r; }
int dcmi_get_device_num_in_card(int card, int *count) { *count = 2; return 0; }
int dcmi_get_device_type(int card, int device, int *kind) { *kind = device; return 0; } /* the second is a controller */
int dcmi_get_device_logic_id(int *logic, int card, int device) { *logic = card; return 0; }
int dcmi_get_device_phyid_from_logicid(unsigned logic, unsigned *physical) { *physical = logic + 4; return 0; }
int dcmi_get_device_health(int c, int d, unsigned *o) { return health("health", 1, o); }
int dcmi_get_device_errorcode_v2(int c, int d, int *n, unsigned *l, unsigned length) { return codes("codes", 1, n, l); }
int dcmi_get_device_chip_info_v2(int c, int d, struct chip *o) { return chip("chip", 1, o); }
int dcmi_get_device_pcie_info_v2(int c, int d, struct pcie *o) { return pcie("pcie", 1, c, o); }
int dcmi_get_device_ecc_info(int c, int d, int kind, struct ecc *o) { return ecc("ecc", 1, kind, o); }
int dcmi_get_device_hbm_info(int c, int d, struct hbm *o) { return hbm("hbm", 1, o); }
int dcmi_get_device_temperature(int c, int d, int *o) { return one("temperature", 1, o, "temperature", 43); }
int dcmi_get_device_power_info(int c, int d, int *o) { return one("power", 1, o, "power", 918); }
int dcmi_get_device_frequency(int c, int d, int kind, unsigned *o) { return one("clock", 1, (int *)o, "clock", 1800); }
int dcmi_get_device_utilization_rate(int c, int d, int kind, unsigned *o) { return one("utilisation", 1, (int *)o, "utilisation", 12); }
int dcmi_get_device_network_health(int c, int d, int *o) { return one("network", 1, o, "network", 0); }
int dcmi_get_device_info(int c, int d, int m, unsigned s, void *o, unsigned *size) { return info("hccs", 1, m, s, o); }
int dcmi_get_device_resource_info(int c, int d, struct process *o, int *n) { return processes("processes", 1, o, n); }
int dcmi_get_device_die_v2(int c, int d, int kind, struct die *o) { return die("die", 1, c, o); }
int dcmi_get_card_elabel_v2(int c, struct label *o) { return label("label", 1, o); }
int dcmi_get_driver_version(char *o, unsigned length) { return text("driver", 1, o, "24.1.rc1"); }
int dcmi_get_dcmi_version(char *o, int length) { return text("dcmi", 1, o, "24.1"); }
#endif

#ifdef VERSION_2
int dcmiv2_init(void) { return before("init", 2); }
int dcmiv2_get_device_list(int *list, int *count, int length) { int r = before("list", 2); *count = 2; list[0] = 0; list[1] = 1; return r; }
int dcmiv2_get_chip_phy_id_by_dev_id(unsigned d, unsigned *physical) { *physical = d; return 0; }
int dcmiv2_get_device_health(int d, unsigned *o) { return health("health", 2, o); }
int dcmiv2_get_device_error_code_list(int d, int *n, unsigned *l, unsigned length) { return codes("codes", 2, n, l); }
int dcmiv2_get_device_chip_info(int d, struct chip *o) { return chip("chip", 2, o); }
int dcmiv2_get_device_pcie_info(int d, struct pcie *o) { return pcie("pcie", 2, d, o); }
int dcmiv2_get_device_ecc_info(int d, int kind, struct ecc *o) { return ecc("ecc", 2, kind, o); }
int dcmiv2_get_device_hbm_info(int d, struct hbm *o) { return hbm("hbm", 2, o); }
int dcmiv2_get_device_temperature(int d, int *o) { return one("temperature", 2, o, "temperature", 56); }
int dcmiv2_get_device_power_info(int d, int *o) { return one("power", 2, o, "power", 1957); }
int dcmiv2_get_device_frequency(int d, int kind, unsigned *o) { return one("clock", 2, (int *)o, "clock", 1650); }
int dcmiv2_get_device_utilization_rate(int d, int kind, unsigned *o) { return one("utilisation", 2, (int *)o, "utilisation", 12); }
int dcmiv2_get_device_network_health(int d, int *o) { return one("network", 2, o, "network", 0); }
int dcmiv2_get_device_info(int d, int m, unsigned s, void *o, unsigned *size) { return info("hccs", 2, m, s, o); }
int dcmiv2_get_device_proc_mem_info(int d, struct process *o, int *n) { return processes("processes", 2, o, n); }
int dcmiv2_get_device_die_id(int d, int kind, struct die *o) { return die("die", 2, d, o); }
int dcmiv2_get_device_elabel_info(int d, struct label *o) { return label("label", 2, o); }
int dcmiv2_get_dcmi_version(char *o, int length) { return text("dcmi", 2, o, "25.7"); }
#endif
