package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.ConcurrentUseException;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What a program gets wrong ends in an exception that names the cause, and the JVM lives. Each case runs in a JVM of its own, so
 * that one that kills it is seen as an exit code and not as a test run that stops.
 */
class BadInputTest {
    @TempDir
    private Path folder;

    /** One wrong use; {@link #run} has to throw. */
    enum Case {
        FILE_MISSING(LlamaException.class, "missing.gguf") {
            @Override
            void run(Path folder) {
                Model.load(folder.resolve("missing.gguf"));
            }
        },
        FILE_EMPTY(LlamaException.class, "empty.gguf") {
            @Override
            void run(Path folder) throws IOException {
                Model.load(Files.createFile(folder.resolve("empty.gguf")));
            }
        },
        FILE_IS_A_DIRECTORY(LlamaException.class, "director") {
            @Override
            void run(Path folder) {
                Model.load(folder);
            }
        },
        FILE_UNREADABLE(LlamaException.class, "unreadable.gguf") {
            @Override
            void run(Path folder) throws IOException {
                var file = write(folder.resolve("unreadable.gguf"));
                Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("---------"));
                if (Files.isReadable(file)) {
                    throw new NothingToTest("this user may read every file");
                }
                Model.load(file);
            }
        },
        FILE_IS_NO_MODEL(LlamaException.class, "GGUF") {
            @Override
            void run(Path folder) throws IOException {
                Model.load(Files.writeString(folder.resolve("no.gguf"), "public class Foo {}\n".repeat(200)));
            }
        },
        FILE_TRUNCATED_ANYWHERE(LlamaException.class, "last of") {
            @Override
            void run(Path folder) throws IOException {
                var whole = Files.readAllBytes(write(folder.resolve("whole.gguf")));
                var file = folder.resolve("truncated.gguf");
                var random = new SplittableRandom(SEED);
                int tried = 0;
                LlamaException last = null;
                for (int length = 1; length < whole.length; length += 1 + random.nextInt(1 + length / 12)) {
                    Files.write(file, Arrays.copyOf(whole, length));
                    try {
                        Model.load(file).close();
                        throw new AssertionError("loaded " + length + " of " + whole.length + " bytes");
                    } catch (LlamaException e) {
                        last = e;
                        tried++;
                    }
                }
                throw new LlamaException("last of " + tried + ": " + last.getMessage());
            }
        },
        FILE_CORRUPTED_ANYWHERE(LlamaException.class, "survived") {
            @Override
            void run(Path folder) throws IOException {
                var whole = Files.readAllBytes(write(folder.resolve("whole.gguf")));
                var file = folder.resolve("corrupted.gguf");
                var random = new SplittableRandom(SEED);
                int loaded = 0;
                int refused = 0;
                for (int i = 0; i < 400; i++) {
                    var bytes = whole.clone();
                    for (int k = random.nextInt(3); k >= 0; k--) {
                        // metadata and tensor infos are the first part of the file
                        int at = random.nextInt(Math.min(bytes.length, 24_000));
                        bytes[at] = (byte) random.nextInt(256);
                        if (random.nextInt(4) == 0) {
                            Arrays.fill(bytes, at, Math.min(bytes.length, at + 8), (byte) 0xff);
                        }
                    }
                    Files.write(file, bytes);
                    try (var model = Model.load(file); var engine = Engine.open(model, SMALL); var sequence = engine.newSequence()) {
                        sequence.append(new int[] {0}, engine.newRow());
                        loaded++;       // a changed text or number is no fault that anyone could find
                    } catch (LlamaException e) {
                        refused++;
                    }
                }
                throw new LlamaException("survived: " + loaded + " loaded, " + refused + " refused");
            }
        },
        MODEL_WITHOUT_A_VOCABULARY(LlamaException.class, "vocabulary") {
            @Override
            void run(Path folder) throws IOException {
                var file = folder.resolve("none.gguf");
                withoutVocabulary().write(file);
                Model.load(file).vocabulary().tokenize("x", false, false);
            }
        },
        CONTEXT_LARGER_THAN_MEMORY(InsufficientMemoryException.class, "memory") {
            @Override
            void run(Path folder) throws IOException {
                // 2^30 cells of 4 layers, 2 heads of 16, keys and values in two bytes: 550 GB
                var model = Model.load(write(folder.resolve("m.gguf")));
                Engine.open(model, EngineOptions.defaults().withContextSize(1 << 30));
            }
        },
        PROMPT_LONGER_THAN_THE_CONTEXT(ContextFullException.class, "256") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                engine.newSequence().append(new int[257], engine.newRow());
            }
        },
        GENERATION_PAST_THE_CONTEXT(ContextFullException.class, "256") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                var sequence = engine.newSequence();
                sequence.append(new int[256], null);
                sequence.append(1, engine.newRow());
            }
        },
        TOKEN_BELOW_THE_VOCABULARY(RuntimeException.class, "-1") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                engine.newSequence().append(new int[] {5, -1}, engine.newRow());
            }
        },
        TOKEN_ABOVE_THE_VOCABULARY(RuntimeException.class, "512") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                engine.newSequence().append(512, engine.newRow());
            }
        },
        TOKEN_TO_TEXT_OUT_OF_RANGE(RuntimeException.class, "512") {
            @Override
            void run(Path folder) throws IOException {
                engine(folder).model().vocabulary().bytes(512);
            }
        },
        NO_TOKENS(IllegalArgumentException.class, "no tokens") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                engine.newSequence().append(new int[0], engine.newRow());
            }
        },
        ROW_OF_ANOTHER_SIZE(RuntimeException.class, "511") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                engine.newSequence().append(1, new Row(511));
            }
        },
        DECODE_AFTER_CLOSING_THE_SEQUENCE(ClosedException.class, "closed") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                var sequence = engine.newSequence();
                sequence.append(1, engine.newRow());
                sequence.close();
                sequence.append(2, engine.newRow());
            }
        },
        DECODE_AFTER_CLOSING_THE_ENGINE(ClosedException.class, "closed") {
            @Override
            void run(Path folder) throws IOException {
                var engine = engine(folder);
                var sequence = engine.newSequence();
                var row = engine.newRow();
                sequence.append(1, row);
                engine.close();
                sequence.append(2, row);
            }
        },
        ENGINE_OF_A_CLOSED_MODEL(ClosedException.class, "closed") {
            @Override
            void run(Path folder) throws IOException {
                var model = Model.load(write(folder.resolve("m.gguf")));
                model.close();
                Engine.open(model, SMALL);
            }
        },
        MODEL_CLOSED_UNDER_LIVE_ENGINES(RuntimeException.class, "2") {
            @Override
            void run(Path folder) throws IOException {
                var model = Model.load(write(folder.resolve("m.gguf")));
                var first = Engine.open(model, SMALL);
                Engine.open(model, SMALL);
                try {
                    model.close();
                } finally {
                    first.newSequence().append(1, first.newRow());      // the model is still there
                }
            }
        },
        SEQUENCE_FROM_TWO_THREADS(ConcurrentUseException.class, "another thread") {
            @Override
            void run(Path folder) throws Exception {
                var engine = engine(folder);
                var sequence = engine.newSequence();
                var seen = new AtomicReference<ConcurrentUseException>();
                Runnable use = () -> {
                    while (seen.get() == null) {
                        try {
                            sequence.append(1, null);
                            sequence.truncate(0);
                        } catch (ConcurrentUseException e) {
                            seen.set(e);
                        } catch (ContextFullException e) {
                            // the other thread is about to truncate
                        }
                    }
                };
                var other = new Thread(use);
                other.start();
                use.run();
                other.join();
                sequence.truncate(0);
                sequence.append(new int[] {1, 2, 3}, engine.newRow());      // and still in order
                throw seen.get();
            }
        },
        PROGRESS_CALLBACK_THAT_THROWS(IllegalStateException.class, "thrown by the callback") {
            @Override
            void run(Path folder) throws IOException {
                Model.load(write(folder.resolve("m.gguf")), ModelOptions.defaults().withProgress(done -> {
                    throw new IllegalStateException("thrown by the callback");
                }));
            }
        };

        private final Class<?> type;
        private final String cause;

        Case(Class<?> type, String cause) {
            this.type = type;
            this.cause = cause;
        }

        abstract void run(Path folder) throws Exception;
    }

    private static final long SEED = 99;
    private static final EngineOptions SMALL = EngineOptions.defaults().withContextSize(256).withThreads(1).withMaxSequences(2);

    static Stream<Case> cases() {
        return Stream.of(Case.values());
    }

    @ParameterizedTest
    @MethodSource("cases")
    void endsInAnExceptionThatNamesTheCause(Case bad) throws Exception {
        var result = Project.java(Child.class, bad.name(), folder.toString());
        assertEquals(0, result.code(), () -> "the JVM ended:\n" + result.out() + result.error());
        System.out.println(result.out().strip());
        var lines = result.out().strip().split("\n", 2);
        if (lines[0].equals(NothingToTest.class.getName())) {
            return;
        }
        var thrown = Class.forName(lines[0]);
        assertTrue(bad.type.isAssignableFrom(thrown), () -> "expected " + bad.type.getName() + ", got " + result.out());
        assertTrue(lines.length > 1 && lines[1].contains(bad.cause), () -> "no '" + bad.cause + "' in: " + result.out());
        assertTrue(LlamaException.class.isAssignableFrom(thrown) || IllegalArgumentException.class.isAssignableFrom(thrown)
                || IndexOutOfBoundsException.class.isAssignableFrom(thrown) || IllegalStateException.class.isAssignableFrom(thrown),
                () -> "not a typed exception: " + result.out());
    }

    /** Where a case can't be made on this system. */
    static final class NothingToTest extends RuntimeException {
        private static final long serialVersionUID = 1;

        NothingToTest(String message) {
            super(message);
        }
    }

    /** Runs one case, prints class and message of what it throws, and ends with 0 only then. */
    static final class Child {
        public static void main(String[] arguments) {
            try {
                Case.valueOf(arguments[0]).run(Path.of(arguments[1]));
            } catch (AssertionError e) {
                throw e;
            } catch (Throwable e) {
                System.out.println(e.getClass().getName());
                System.out.println(e.getMessage());
                System.exit(0);         // engines may be open
            }
            System.out.println("nothing was thrown");
            System.exit(1);
        }
    }

    private static Path write(Path file) {
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(file);
        return file;
    }

    private static Engine engine(Path folder) {
        return Engine.open(Model.load(write(folder.resolve("model.gguf"))), SMALL);
    }

    /** The tiny model again, its tokenizer said to be none. */
    private static GgufWriter withoutVocabulary() {
        return RandomModel.tiny(RandomModel.Architecture.LLAMA).writer().put("tokenizer.ggml.model", "no_vocab");
    }
}
