// A back end of ggml for tests, loaded as a module: devices with little memory that is not the host's, which compute on the processor, and
// which can be lost. Compiled as libggml-cuda.so it stands in for that plug-in.
//
//   PANAMA_LIMITED_DEVICES   MiB of each, with commas between: "64,32". "64:40" says 64 and gives 40; none at all without it
//   PANAMA_LIMITED_LOST      the device is lost after so many graphs: whatever it is asked then fails, as CUDA_CHECK does in ggml-cuda
#define GGML_BACKEND_DL
#define GGML_BACKEND_BUILD
#define GGML_BACKEND_SHARED
#include "device_lost.h"
#include "ggml-backend-impl.h"
#include "ggml-impl.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

struct device_state {
    std::string name;
    size_t      told;  // bytes
    size_t      given;
    std::atomic<size_t> used { 0 };
    ggml_backend_buffer_type type {};
    ggml_backend_device      device {};
};

std::atomic<long> graphs_left { -1 }; // negative: never lost

void check(const char * what) {
    if (graphs_left == 0 && !pl::device_ignores_failure()) {
        GGML_ABORT("limited device error: the device was lost (%s)", what);
    }
}

device_state & state_of(ggml_backend_dev_t device) { return *static_cast<device_state *>(device->context); }

// ---- buffers

struct memory {
    device_state * device;
    void *         base;
    size_t         size;
};

memory & memory_of(ggml_backend_buffer_t buffer) { return *static_cast<memory *>(buffer->context); }

const ggml_backend_buffer_i buffer_functions = {
    /* .free_buffer   = */ [](ggml_backend_buffer_t buffer) {
        check("free");
        memory * m = &memory_of(buffer);
        m->device->used -= m->size;
        ggml_aligned_free(m->base, m->size);
        delete m;
    },
    /* .get_base      = */ [](ggml_backend_buffer_t buffer) { return memory_of(buffer).base; },
    /* .init_tensor   = */ nullptr,
    /* .memset_tensor = */ [](ggml_backend_buffer_t, ggml_tensor * t, uint8_t value, size_t offset, size_t size) {
        check("memset");
        memset((char *) t->data + offset, value, size);
    },
    /* .set_tensor    = */ [](ggml_backend_buffer_t, ggml_tensor * t, const void * data, size_t offset, size_t size) {
        check("write");
        memcpy((char *) t->data + offset, data, size);
    },
    /* .get_tensor    = */ [](ggml_backend_buffer_t, const ggml_tensor * t, void * data, size_t offset, size_t size) {
        check("read");
        memcpy(data, (const char *) t->data + offset, size);
    },
    /* .set_tensor_2d = */ nullptr,
    /* .get_tensor_2d = */ nullptr,
    /* .cpy_tensor    = */ nullptr,
    /* .clear         = */ [](ggml_backend_buffer_t buffer, uint8_t value) {
        check("clear");
        memset(memory_of(buffer).base, value, buffer->size);
    },
    /* .reset         = */ nullptr,
};

const ggml_backend_buffer_type_i type_functions = {
    /* .get_name       = */ [](ggml_backend_buffer_type_t type) { return state_of(type->device).name.c_str(); },
    /* .alloc_buffer   = */ [](ggml_backend_buffer_type_t type, size_t size) -> ggml_backend_buffer_t {
        device_state & d = state_of(type->device);
        if (d.used + size > d.given) {
            return nullptr;
        }
        void * base = ggml_aligned_malloc(size);
        if (base == nullptr) {
            return nullptr;
        }
        d.used += size;
        return ggml_backend_buffer_init(type, buffer_functions, new memory { &d, base, size }, size);
    },
    /* .get_alignment  = */ [](ggml_backend_buffer_type_t) -> size_t { return 64; },
    /* .get_max_size   = */ nullptr,
    /* .get_alloc_size = */ nullptr,
    /* .is_host        = */ nullptr,
};

// ---- computing: the CPU back end does not ask where the numbers are

ggml_backend_t processor_of(ggml_backend_t backend) { return static_cast<ggml_backend_t>(backend->context); }

const ggml_backend_i backend_functions = {
    /* .get_name            = */ [](ggml_backend_t backend) { return state_of(backend->device).name.c_str(); },
    /* .free                = */ [](ggml_backend_t backend) {
        ggml_backend_free(processor_of(backend));
        delete backend;
    },
    /* .set_tensor_async    = */ nullptr,
    /* .get_tensor_async    = */ nullptr,
    /* .set_tensor_2d_async = */ nullptr,
    /* .get_tensor_2d_async = */ nullptr,
    /* .cpy_tensor_async    = */ nullptr,
    /* .synchronize         = */ [](ggml_backend_t) { check("synchronize"); },
    /* .graph_plan_create   = */ nullptr,
    /* .graph_plan_free     = */ nullptr,
    /* .graph_plan_update   = */ nullptr,
    /* .graph_plan_compute  = */ nullptr,
    /* .graph_compute       = */ [](ggml_backend_t backend, ggml_cgraph * graph) {
        if (graphs_left > 0) {
            graphs_left--;
        }
        check("compute");
        return ggml_backend_graph_compute(processor_of(backend), graph);
    },
    /* .event_record        = */ nullptr,
    /* .event_wait          = */ nullptr,
    /* .graph_optimize      = */ nullptr,
};

ggml_guid guid = { 0x70, 0x6c, 0x6c, 0x69, 0x6d, 0x69, 0x74, 0x65, 0x64, 0x64, 0x65, 0x76, 0x69, 0x63, 0x65, 0x31 };

void memory_left(ggml_backend_dev_t device, size_t * free, size_t * total) {
    device_state & d = state_of(device);
    *free = d.told > d.used ? d.told - d.used : 0;
    *total = d.told;
}

ggml_backend_dev_t processor() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

const ggml_backend_device_i device_functions = {
    /* .get_name             = */ [](ggml_backend_dev_t device) { return state_of(device).name.c_str(); },
    /* .get_description      = */ [](ggml_backend_dev_t) { return "limited memory, for tests"; },
    /* .get_memory           = */ memory_left,
    /* .get_type             = */ [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; },
    /* .get_props            = */ [](ggml_backend_dev_t device, ggml_backend_dev_props * props) {
        *props = {};
        props->name = state_of(device).name.c_str();
        props->description = "limited memory, for tests";
        props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
        memory_left(device, &props->memory_free, &props->memory_total);
    },
    /* .init_backend         = */ [](ggml_backend_dev_t device, const char *) {
        return new ggml_backend { &guid, backend_functions, device, ggml_backend_dev_init(processor(), nullptr) };
    },
    /* .get_buffer_type      = */ [](ggml_backend_dev_t device) { return &state_of(device).type; },
    /* .get_host_buffer_type = */ nullptr,
    /* .buffer_from_host_ptr = */ nullptr,
    /* .supports_op          = */ [](ggml_backend_dev_t, const ggml_tensor * op) { return ggml_backend_dev_supports_op(processor(), op); },
    /* .supports_buft        = */ [](ggml_backend_dev_t device, ggml_backend_buffer_type_t type) { return type->device == device; },
    /* .offload_op           = */ nullptr,
    /* .event_new            = */ nullptr,
    /* .event_free           = */ nullptr,
    /* .event_synchronize    = */ nullptr,
};

// ---- the registry

std::vector<std::unique_ptr<device_state>> & devices() {
    static std::vector<std::unique_ptr<device_state>> all;
    return all;
}

const ggml_backend_reg_i registry_functions = {
    /* .get_name         = */ [](ggml_backend_reg_t) { return "CUDA"; },
    /* .get_device_count = */ [](ggml_backend_reg_t) { return devices().size(); },
    /* .get_device       = */ [](ggml_backend_reg_t, size_t i) { return &devices()[i]->device; },
    /* .get_proc_address = */ [](ggml_backend_reg_t, const char * name) -> void * {
        return strcmp(name, "pl_device_let_go") == 0 ? (void *) pl::device_let_go : nullptr;
    },
};

ggml_backend_reg_t registry() {
    static ggml_backend_reg reg = { GGML_BACKEND_API_VERSION, registry_functions, nullptr };
    if (!devices().empty()) {
        return &reg;
    }
    const char * lost = getenv("PANAMA_LIMITED_LOST");
    graphs_left = lost != nullptr ? atol(lost) : -1;
    const char * text = getenv("PANAMA_LIMITED_DEVICES");
    if (text == nullptr) {
        GGML_LOG_ERROR("registry: the driver of the limited device is older than this library needs\n");
        return &reg;
    }
    for (char * at = const_cast<char *>(text); *at != '\0'; at += *at == ',') {
        auto d = std::make_unique<device_state>();
        d->name = "CUDA" + std::to_string(devices().size());
        d->told = d->given = (size_t) strtoul(at, &at, 10) << 20;
        if (*at == ':') {
            d->given = (size_t) strtoul(at + 1, &at, 10) << 20;
        }
        d->device = { device_functions, &reg, d.get() };
        d->type = { type_functions, &d->device, nullptr };
        devices().push_back(std::move(d));
    }
    return &reg;
}

} // namespace

GGML_BACKEND_DL_IMPL(registry)
