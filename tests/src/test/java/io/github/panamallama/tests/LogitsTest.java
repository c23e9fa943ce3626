package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.tests.CProgram.Setting;
import io.github.panamallama.tests.CProgram.Step;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The engine's rows equal those of a C program over the same library bit for bit: the claim for equal batch shapes, cell layout,
 * threads and flash attention.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class LogitsTest {
    private CProgram program;

    @BeforeAll
    void compile(@TempDir Path folder) throws Exception {
        program = CProgram.compile(folder, "logits");
    }

    /** Prompt lengths around the borders of vector kernels and of the ubatch; 512 cells switch flash attention's path. */
    static Stream<Case> cases() {
        var cases = new ArrayList<Case>();
        for (var model : List.of(Models.shippedF16(), Models.shippedQ8())) {
            for (int threads = 1; threads <= 2; threads++) {
                for (int flash = -1; flash <= 1; flash++) {
                    cases.add(new Case(model, new Setting(768, 512, 512, 16, threads, threads, flash), 37, 8));
                }
            }
            cases.add(new Case(model, new Setting(768, 512, 512, 4, 1, 2, -1), 1, 16));
            cases.add(new Case(model, new Setting(768, 512, 128, 1, 2, 2, -1), 500, 24));
            cases.add(new Case(model, new Setting(256, 64, 32, 16, 2, 1, 1), 64, 8));
        }
        return cases.stream();
    }

    record Case(Path model, Setting setting, int prompt, int decode) {
        @Override
        public String toString() {
            return model.getFileName() + " " + setting + " prompt " + prompt + " decode " + decode;
        }
    }

    @ParameterizedTest
    @MethodSource("cases")
    void rowsOfPromptAndDecodeEqualThoseOfAProgramInC(Case c) throws Exception {
        try (var model = Model.load(c.model())) {
            var tokens = randomTokens(model, c.prompt() + c.decode());
            var prompt = Arrays.copyOf(tokens, c.prompt());
            var steps = new ArrayList<>(List.of(Step.last(prompt)));
            for (int i = c.prompt(); i < tokens.length; i++) {
                steps.add(Step.last(tokens[i]));
            }
            var expected = program.run(c.model(), c.setting(), steps);

            try (var engine = open(model, c.setting()); var sequence = engine.newSequence()) {
                var row = engine.newRow();
                sequence.append(prompt, row);
                assertSameBits(expected.get(0), row, "after the prompt");
                for (int i = 0; i < c.decode(); i++) {
                    sequence.append(tokens[c.prompt() + i], row);
                    assertSameBits(expected.get(1 + i), row, "after decoding " + (i + 1) + " tokens");
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("cases")
    void rowsOfEveryPositionAndAfterTruncationEqualThoseOfAProgramInC(Case c) throws Exception {
        try (var model = Model.load(c.model())) {
            int length = Math.min(c.prompt(), 40);
            int kept = Math.max(1, length / 3);
            var tokens = randomTokens(model, length + 8);
            var first = Arrays.copyOf(tokens, length);
            var second = Arrays.copyOfRange(tokens, length, tokens.length);
            var expected = program.run(c.model(), c.setting(),
                    List.of(Step.all(first), Step.truncate(kept), Step.all(second)));

            try (var engine = open(model, c.setting()); var sequence = engine.newSequence()) {
                var rows = rows(engine, length);
                engine.decode(Append.all(sequence, first, rows));
                for (int i = 0; i < length; i++) {
                    assertSameBits(expected.get(i), rows[i], "position " + i);
                }
                sequence.truncate(kept);
                rows = rows(engine, second.length);
                engine.decode(Append.all(sequence, second, rows));
                for (int i = 0; i < second.length; i++) {
                    assertSameBits(expected.get(length + i), rows[i], "position " + (kept + i) + " after the truncation");
                }
            }
        }
    }

    private static Engine open(Model model, Setting setting) {
        var flash = switch (setting.flashAttention()) {
            case 0 -> FlashAttention.OFF;
            case 1 -> FlashAttention.ON;
            default -> FlashAttention.AUTO;
        };
        return Engine.open(model, EngineOptions.defaults().withContextSize(setting.contextSize())
                .withBatchSize(setting.batchSize()).withUbatchSize(setting.ubatchSize()).withMaxSequences(setting.sequences())
                .withThreads(setting.threads()).withBatchThreads(setting.batchThreads()).withFlashAttention(flash));
    }

    private static Row[] rows(Engine engine, int count) {
        return Stream.generate(engine::newRow).limit(count).toArray(Row[]::new);
    }

    private static int[] randomTokens(Model model, int count) {
        long seed = 0x5eed + count;
        System.out.println("seed " + seed);
        return new SplittableRandom(seed).ints(count, 0, model.vocabulary().size()).toArray();
    }

    private static void assertSameBits(float[] expected, Row row, String where) {
        assertEquals(expected.length, row.size());
        var got = row.toArray();
        int different = 0;
        int first = -1;
        for (int i = 0; i < expected.length; i++) {
            if (Float.floatToRawIntBits(expected[i]) != Float.floatToRawIntBits(got[i])) {
                different++;
                first = first < 0 ? i : first;
            }
        }
        if (different > 0) {
            throw new AssertionError(different + " of " + expected.length + " logits differ " + where + ", first at token " + first
                    + ": " + expected[first] + " in C, " + got[first] + " from the engine");
        }
    }
}
