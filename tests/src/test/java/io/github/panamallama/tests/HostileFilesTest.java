package io.github.panamallama.tests;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * No file ends the JVM. Models of every architecture, adapters and split models are broken by {@link GgufMutator}; a child JVM loads
 * them one after the other, and what loads is tokenised with and evaluated. {@link Trials} has the properties.
 */
class HostileFilesTest {
    @TempDir
    private Path folder;

    @Test
    void noFileEndsTheProcess() throws Exception {
        Trials.run(Child.class, folder);
    }

    /** A broken file, with the whole ones it needs beside it. */
    private record Subject(Path model, Path adapter, Path control, List<String> changes) implements Trials.Subject {
        private static final RandomModel.Architecture[] ARCHITECTURES = RandomModel.Architecture.values();
        private static final List<GgmlType> TYPES =
                List.of(GgmlType.F32, GgmlType.F32, GgmlType.F16, GgmlType.Q4_0, GgmlType.Q8_0, GgmlType.BF16);
        private static final Map<String, RawGguf> WHOLE = new HashMap<>();

        static Subject of(long seed, Path folder) {
            try {
                var random = new SplittableRandom(seed);
                if (random.nextInt(8) == 0) {
                    return encoder(folder, random);
                }
                var architecture = ARCHITECTURES[random.nextInt(ARCHITECTURES.length)];
                var type = TYPES.get(random.nextInt(TYPES.size()));
                var whole = folder.resolve(architecture.key() + "-" + type.label() + ".gguf");
                if (!Files.exists(whole)) {
                    RandomModel.tiny(architecture).withLayers(2).withVocabularySize(300).withType(type).write(whole);
                }
                return switch (random.nextInt(10)) {
                    case 0 -> adapter(whole, folder, random.nextLong());
                    case 1 -> split(whole, folder, random);
                    case 2 -> control(whole, architecture, folder, random.nextLong());
                    default -> {
                        var mutant = GgufMutator.mutant(whole(whole), random.nextLong());
                        yield new Subject(Files.write(folder.resolve("broken.gguf"), mutant.bytes()), null, null, named(whole, mutant));
                    }
                };
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static RawGguf whole(Path file) throws IOException {
            var name = file.getFileName().toString();
            if (!WHOLE.containsKey(name)) {
                WHOLE.put(name, RawGguf.of(Files.readAllBytes(file)));
            }
            return WHOLE.get(name);
        }

        private static List<String> named(Path whole, GgufMutator.Mutant mutant) {
            var changes = new ArrayList<>(List.of(whole.getFileName().toString()));
            changes.addAll(mutant.changes());
            return changes;
        }

        private static Subject adapter(Path model, Path folder, long seed) throws IOException {
            var whole = folder.resolve("adapter-" + model.getFileName());
            if (!Files.exists(whole)) {
                new RandomAdapter(4, 1, GgmlType.F16, 1).write(GgufFile.read(model), whole);
            }
            var mutant = GgufMutator.mutant(whole(whole), seed);
            return new Subject(model, Files.write(folder.resolve("broken-adapter.gguf"), mutant.bytes()), null, named(whole, mutant));
        }

        private static Subject control(Path model, RandomModel.Architecture architecture, Path folder, long seed) throws IOException {
            var whole = folder.resolve("control-" + model.getFileName());
            if (!Files.exists(whole)) {
                int width = (int) GgufFile.read(model).metadata().integer(architecture.key() + ".embedding_length").orElseThrow();
                new GgufWriter().put("general.architecture", "controlvector").put("controlvector.model_hint", architecture.key())
                        .tensor("direction.1", GgmlType.F32, List.of((long) width), out -> {
                            var bytes = new byte[4 * width];
                            for (int i = 3; i < bytes.length; i += 4) {
                                bytes[i] = 0x3d;
                            }
                            out.write(MemorySegment.ofArray(bytes));
                        }).write(whole);
            }
            var mutant = GgufMutator.mutant(whole(whole), seed);
            return new Subject(model, null, Files.write(folder.resolve("broken-control.gguf"), mutant.bytes()), named(whole, mutant));
        }

        private static Subject encoder(Path folder, SplittableRandom random) throws IOException {
            var architectures = RandomEncoder.Architecture.values();
            var architecture = architectures[random.nextInt(architectures.length)];
            var whole = folder.resolve(architecture.key() + ".gguf");
            if (!Files.exists(whole)) {
                var shape = RandomEncoder.tiny(architecture);
                (architecture == RandomEncoder.Architecture.BERT ? shape.withClasses(1) : shape).write(whole);
            }
            var mutant = GgufMutator.mutant(whole(whole), random.nextLong());
            return new Subject(Files.write(folder.resolve("broken.gguf"), mutant.bytes()), null, null, named(whole, mutant));
        }

        private static Subject split(Path model, Path folder, SplittableRandom random) throws IOException {
            var file = GgufFile.read(model);
            var names = new ArrayList<Path>();
            for (int i = 0; i < 2; i++) {
                var part = folder.resolve("part-" + i + "-" + model.getFileName());
                if (!Files.exists(part)) {
                    part(file, i).write(part);
                }
                names.add(part);
            }
            int broken = random.nextInt(2);
            var mutant = GgufMutator.mutant(whole(names.get(broken)), random.nextLong());
            for (int i = 0; i < 2; i++) {
                Files.write(folder.resolve("broken-0000" + (i + 1) + "-of-00002.gguf"),
                        i == broken ? mutant.bytes() : Files.readAllBytes(names.get(i)));
            }
            return new Subject(folder.resolve("broken-00001-of-00002.gguf"), null, null, named(names.get(broken), mutant));
        }

        private static GgufWriter part(GgufFile file, int number) {
            var writer = new GgufWriter();
            if (number == 0) {
                writer.putAll(file.metadata());
            }
            writer.putU16("split.no", number).putU16("split.count", 2).putI32("split.tensors.count", file.tensors().size());
            int half = file.tensors().size() / 2;
            for (var tensor : number == 0 ? file.tensors().subList(0, half) : file.tensors().subList(half, file.tensors().size())) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                    try (var arena = Arena.ofConfined()) {
                        out.write(file.map(tensor, arena));
                    }
                });
            }
            return writer;
        }

        @Override
        public Trials.Outcome tried(long seed) {
            return Child.load(this, seed);
        }
    }

    /** Tries file after file. */
    static final class Child {
        private static final String TEXT = "The quick \u2581brown fox\0 jumps <|endoftext|> <0x41> \uD83D\uDE00 caf\u00e9 123";
        private static final EngineOptions SMALL =
                EngineOptions.defaults().withContextSize(256).withBatchSize(32).withThreads(1).withMaxSequences(2);

        public static void main(String[] arguments) throws IOException {
            var folder = Path.of(arguments[0]);
            Trials.child(arguments, seed -> Subject.of(seed, folder));
        }

        private static Trials.Outcome load(Subject subject, long seed) {
            if (seed % 8 == 0 && subject.adapter == null && subject.control == null) {
                try (var model = Model.load(subject.model, ModelOptions.defaults().withVocabularyOnly(true))) {
                    return tokenize(model) ? Trials.Outcome.EVALUATED : Trials.Outcome.LOADED;
                }
            }
            try (var model = Model.load(subject.model)) {
                boolean texts = tokenize(model);
                if (model.hasEncoder()) {
                    return (model.hasDecoder() ? write(model) : embed(model)) && texts ? Trials.Outcome.EVALUATED : Trials.Outcome.LOADED;
                }
                if (subject.control != null) {
                    return evaluate(model, ControlVector.load(model, subject.control)) ? Trials.Outcome.EVALUATED : Trials.Outcome.LOADED;
                }
                if (subject.adapter == null) {
                    return evaluate(model, AdapterSet.none()) && texts ? Trials.Outcome.EVALUATED : Trials.Outcome.LOADED;
                }
                try (var adapter = Adapter.load(model, subject.adapter)) {
                    return evaluate(model, AdapterSet.of(adapter)) ? Trials.Outcome.EVALUATED : Trials.Outcome.LOADED;
                }
            }
        }

        private static boolean tokenize(Model model) {
            try {
                var vocabulary = model.vocabulary();
                for (boolean special : new boolean[] {false, true}) {
                    vocabulary.detokenize(vocabulary.tokenize(TEXT, true, special));
                }
                for (int i = 0; i < vocabulary.size(); i += 7) {
                    vocabulary.bytes(i);
                    vocabulary.text(i);
                }
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static boolean evaluate(Model model, AdapterSet adapters) {
            int most = model.vocabulary().size() - 1;
            try (var engine = Engine.open(model, SMALL); var sequence = engine.newSequence(adapters)) {
                var row = engine.newRow();
                sequence.append(new int[] {Math.min(1, most), Math.min(70, most), most, 0, Math.min(5, most)}, row);
                sequence.append(0, row);
                sequence.append(most, row);
                try (var fork = sequence.fork()) {
                    fork.append(Math.min(9, most), row);
                }
                sequence.truncate(3);
                sequence.append(new int[40], row);
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static boolean evaluate(Model model, ControlVector control) {
            try (var engine = Engine.open(model, SMALL, control); var sequence = engine.newSequence()) {
                sequence.append(new int[] {1, 2, 3}, engine.newRow());
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static boolean write(Model model) {
            int most = model.vocabulary().size() - 1;
            try (var engine = Engine.open(model, SMALL); var sequence = engine.newSequence(new int[] {Math.min(5, most), most, 0})) {
                var row = engine.newRow();
                sequence.append(Math.max(0, model.decoderStart()), row);
                sequence.append(new int[] {Math.min(7, most), most}, row);
                sequence.truncate(1);
                sequence.append(most, row);
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static boolean embed(Model model) {
            var options = EmbedderOptions.defaults().withBatchSize(64).withMaxTexts(4).withThreads(1);
            try {
                for (var pooling : List.of(Pooling.MEAN, Pooling.NONE)) {
                    try (var embedder = Embedder.open(model, options.withPooling(pooling))) {
                        if (pooling == Pooling.NONE) {
                            embedder.embedTokens("a text");
                        } else {
                            embedder.embed(List.of("a text", "b", "another one"));
                        }
                    }
                }
                try (var reranker = Reranker.open(model, options)) {
                    reranker.scores("a query", List.of("a text", "b"));
                }
                return true;
            } catch (LlamaException e) {
                return e.getMessage().contains("no reranker");
            }
        }
    }
}
