package io.github.panamallama.tests;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * No saved sequence ends the JVM. Whole files of every architecture are broken with their checksum mended, as by somebody who means it;
 * what is restored all the same is evaluated.
 */
class HostileStatesTest {
    /** Magic number and length of the header. */
    private static final int START = 12;

    @TempDir
    private Path folder;

    @Test
    void noSavedSequenceEndsTheProcess() throws Exception {
        Trials.run(Child.class, folder, 30);
    }

    /** A broken file for an engine. */
    private record Subject(Engine engine, Path file, List<String> changes) implements Trials.Subject {
        @Override
        public Trials.Outcome tried(long seed) {
            try (var sequence = engine.restore(file)) {
                try {
                    var row = engine.newRow();
                    sequence.append(300, row);
                    try (var fork = sequence.fork()) {
                        fork.append(new int[] {301, 302}, row);
                    }
                    sequence.truncate(sequence.length() / 2);
                    sequence.append(303, row);
                    return Trials.Outcome.EVALUATED;
                } catch (LlamaException e) {
                    return Trials.Outcome.LOADED;
                }
            }
        }
    }

    /** One model and engine of each architecture, and a sequence of it in a file. */
    private record Whole(Engine engine, byte[] saved, int tokens) {
        static Whole of(Architecture architecture, Path folder) {
            var path = folder.resolve(architecture + ".gguf");
            RandomModel.tiny(architecture).withLayers(2).withVocabularySize(400).withSlidingWindow(16).write(path);
            var engine = Engine.open(Model.load(path), EngineOptions.defaults().withContextSize(256).withThreads(1).withMaxSequences(3));
            try (var sequence = engine.newSequence()) {
                sequence.append(new SplittableRandom(1).ints(24, 260, 400).toArray(), null);
                var file = folder.resolve(architecture + ".state");
                sequence.save(file);
                return new Whole(engine, Files.readAllBytes(file), 24);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    static final class Child {
        private static final Architecture[] ARCHITECTURES = Architecture.values();
        private static final int[] INTERESTING = {0, 1, -1, 2, 255, 256, 65536, Integer.MAX_VALUE, Integer.MIN_VALUE, 0x10000000, 200};
        private static final Map<Architecture, Whole> WHOLE = new EnumMap<>(Architecture.class);

        public static void main(String[] arguments) throws IOException {
            var folder = Path.of(arguments[0]);
            Trials.child(arguments, seed -> broken(seed, folder));
        }

        private static Subject broken(long seed, Path folder) {
            var random = new SplittableRandom(seed);
            var architecture = ARCHITECTURES[random.nextInt(ARCHITECTURES.length)];
            var whole = WHOLE.computeIfAbsent(architecture, it -> Whole.of(it, folder));
            var changes = new ArrayList<>(List.of(architecture.toString()));
            var bytes = whole.saved.clone();
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                bytes = change(bytes, whole.tokens, random, changes);
            }
            if (random.nextInt(20) > 0 && bytes.length >= 4) {
                var sum = new CRC32C();
                sum.update(bytes, 0, bytes.length - 4);
                ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putInt(bytes.length - 4, (int) sum.getValue());
            }
            try {
                return new Subject(whole.engine, Files.write(folder.resolve("broken.state"), bytes), changes);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static byte[] change(byte[] bytes, int tokens, SplittableRandom random, List<String> changes) {
            if (bytes.length < 64) {
                return bytes;
            }
            var file = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
            int header = Math.clamp(file.getInt(8), 0, bytes.length - START - 8);
            int state = Math.min(START + header + 4 * tokens, bytes.length - 8);
            switch (random.nextInt(10)) {
                case 0 -> {
                    int at = random.nextInt(bytes.length);
                    bytes[at] ^= (byte) (1 << random.nextInt(8));
                    changes.add("bit of byte " + at);
                }
                case 1 -> {
                    int length = random.nextInt(bytes.length);
                    changes.add("cut to " + length);
                    return Arrays.copyOf(bytes, length);
                }
                case 2 -> {
                    int at = random.nextInt(bytes.length);
                    int more = 1 + random.nextInt(64);
                    changes.add(more + " bytes more at " + at);
                    var longer = Arrays.copyOf(bytes, bytes.length + more);
                    System.arraycopy(bytes, at, longer, at + more, bytes.length - at);
                    return longer;
                }
                case 3 -> {
                    var text = new String(bytes, START, header, StandardCharsets.UTF_8);
                    var numbers = text.split("(?<=\\D)(?=\\d)|(?<=\\d)(?=\\D)");
                    int which = random.nextInt(numbers.length);
                    if (numbers[which].matches("\\d+")) {
                        numbers[which] = String.valueOf(random.nextBoolean() ? INTERESTING[random.nextInt(INTERESTING.length)]
                                : random.nextLong(100_000));
                    } else {
                        numbers[which] = random.nextBoolean() ? "" : numbers[which] + numbers[which];
                    }
                    var json = String.join("", numbers).getBytes(StandardCharsets.UTF_8);
                    changes.add("header: " + numbers[which]);
                    return ByteBuffer.allocate(bytes.length - header + json.length).order(ByteOrder.LITTLE_ENDIAN).put(bytes, 0, 8)
                            .putInt(json.length).put(json).put(bytes, START + header, bytes.length - START - header).array();
                }
                case 4 -> {
                    int at = START + header + 4 * random.nextInt(tokens);
                    int value = random.nextBoolean() ? random.nextInt(400) : INTERESTING[random.nextInt(INTERESTING.length)];
                    if (at + 4 <= bytes.length) {
                        file.putInt(at, value);
                    }
                    changes.add("token " + value);
                }
                default -> { // where fields are, most of the time
                    int span = random.nextInt(4) == 0 ? bytes.length - state - 4 : Math.min(420, bytes.length - state - 4);
                    int at = state + 4 * random.nextInt(Math.max(1, span / 4));
                    int value = switch (random.nextInt(3)) {
                        case 0 -> file.getInt(at) + random.nextInt(-3, 4);
                        case 1 -> INTERESTING[random.nextInt(INTERESTING.length)];
                        default -> random.nextInt();
                    };
                    file.putInt(at, value);
                    changes.add(value + " at byte " + (at - state) + " of the state");
                }
            }
            return bytes;
        }
    }
}
