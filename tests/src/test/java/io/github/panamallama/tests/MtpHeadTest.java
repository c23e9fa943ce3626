package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.tests.CProgram.Setting;
import io.github.panamallama.tests.CProgram.Step;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * What the MTP head says equals, bit for bit, what it says in a program that uses it the way upstream does: the claim for equal batch
 * shapes, cell layout, threads and flash attention.
 */
class MtpHeadTest {
    @ParameterizedTest
    @CsvSource({"HY_V3, 1, -1", "HY_V3, 2, -1", "HY_V3, 2, 0", "QWEN35, 1, -1", "QWEN35, 2, 0"})
    void draftsEqualThoseOfAProgramThatUsesTheHeadAsUpstreamDoes(Architecture architecture, int threads, int flash, @TempDir Path folder)
            throws Exception {
        assumeTrue(Files.exists(CProgram.UPSTREAM.resolve("llama-ext.h")), "no upstream tree: run ggml-src/vendor");
        var program = CProgram.compileCpp(folder, "mtp");
        var file = Models.random(architecture);
        var setting = new Setting(512, 128, 64, 4, threads, threads, flash);
        boolean truncates = architecture == Architecture.HY_V3; // a recurrent state can't be cut, upstream's route ends there
        long seed = 0x5eed + threads;
        System.out.println("seed " + seed);
        try (var model = Model.load(file, ModelOptions.defaults().withMtp(true))) {
            var random = new SplittableRandom(seed);
            var steps = new ArrayList<Step>();
            int length = 0;
            for (int round = 0; round < 6; round++) {
                int[] run = random.ints(round == 0 ? 100 : round, 0, model.vocabulary().size()).toArray();
                steps.add(Step.last(run));
                length += run.length;
                steps.add(Step.draft(random.ints(1 + round, 0, model.vocabulary().size()).toArray()));
                if (truncates && round % 2 == 1) {
                    length -= round == 3 ? 70 : 2;
                    steps.add(Step.truncate(length));
                    steps.add(Step.draft(random.ints(2, 0, model.vocabulary().size()).toArray()));
                }
            }
            var expected = program.run(file, setting, steps).iterator();
            var options = EngineOptions.defaults().withContextSize(512).withBatchSize(128).withUbatchSize(64).withMaxSequences(4)
                    .withThreads(threads).withFlashAttention(flash == 0 ? FlashAttention.OFF : FlashAttention.AUTO);
            try (var engine = Engine.open(model, options); var sequence = engine.newSequence()) {
                var row = engine.newRow();
                for (int i = 0; i < steps.size(); i++) {
                    var step = steps.get(i);
                    switch (step.kind()) {
                        case 'L' -> {
                            sequence.append(step.values(), row);
                            assertArrayEquals(expected.next(), row.toArray(), "the model's row, step " + i);
                        }
                        case 'D' -> {
                            for (int n = 1; n <= step.values().length; n++) {
                                sequence.draft(Arrays.copyOf(step.values(), n), row);
                                assertArrayEquals(expected.next(), row.toArray(), "draft of " + n + ", step " + i);
                            }
                        }
                        default -> sequence.truncate(step.values()[0]);
                    }
                }
            }
        }
    }
}
