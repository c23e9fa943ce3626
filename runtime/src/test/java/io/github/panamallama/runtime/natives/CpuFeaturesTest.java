package io.github.panamallama.runtime.natives;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

class CpuFeaturesTest {
    @Test
    void whatTheProcessorLacksIsNamed() {
        var cpu = CpuFeatures.ofCpuInfo("processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu sse4_1 avx avx2 fma\nprocessor\t: 1\nflags\t\t: fpu avx512f\n");
        assertEquals(Set.of("fpu", "sse4_1", "avx", "avx2", "fma"), cpu);
        assertEquals(List.of("avx512f", "amx_int8"), CpuFeatures.missing(List.of("avx2", "avx512f", "fma", "amx_int8"), cpu));
    }

    @Test
    void armListsThemAsFeatures() {
        var cpu = CpuFeatures.ofCpuInfo("processor\t: 0\nFeatures\t: fp asimd asimddp\n");
        assertEquals(List.of("i8mm"), CpuFeatures.missing(List.of("asimddp", "i8mm"), cpu));
    }

    @Test
    void macOsListsThemBySysctl() {
        assertEquals(Set.of("FEAT_DotProd"), CpuFeatures.ofSysctl("hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n"));
        assertEquals(Set.of("fpu", "pni", "sse4_1", "avx", "avx2"),
                CpuFeatures.ofSysctl("machdep.cpu.features: FPU SSE3 SSE4.1 AVX1.0\nmachdep.cpu.leaf7_features: AVX2\n"));
    }

    @Test
    void withoutAListThereIsNoVerdict() {
        assertEquals(List.of(), CpuFeatures.missing(List.of("avx2"), Set.of()));
        assertEquals(List.of(), CpuFeatures.missing(List.of()));
    }
}
