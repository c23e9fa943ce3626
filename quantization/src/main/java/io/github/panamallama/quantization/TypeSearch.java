package io.github.panamallama.quantization;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.TrialModel;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.search.Divergence;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import io.github.panamallama.runtime.search.Tournament;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/**
 * Searches a type for each matrix of a model, dense or 2:4 sparse, so that the whole has a given size and diverges least from the model as
 * it was (EvoPress, arXiv 2410.14649; see {@link Tournament}). Candidates have the size asked for to within one step of one matrix, and are
 * judged as a whole: nothing is assumed about how errors of matrices add up.
 *
 * <p>Every matrix is rounded to every type once. A candidate is the model pointed at some of these blocks ({@link TrialModel}), so that
 * trying it costs its evaluation, by the kernels that will run it: nothing is copied, written or loaded.
 *
 * <p>Takes, beside the model, which is mapped: room on disk for every matrix in every type, mapped too (with {@link #TYPES} 7.5 bytes for
 * each weight, of which those of the candidate at hand should fit into memory); logits of the text, within
 * {@link Resources#logitMemory}; Gram matrices for SparseGPT, within {@link Resources#gramMemory}, freed before the search.
 *
 * <p>Immutable; any thread may {@link #run} it.
 *
 * <pre>{@code
 * var plan = TypeSearch.to(3.2).run(in, textFile, Calibration.of(text), Resources.usual()).plan();
 * PlannedQuantizer.of(in, plan).run(text, out);
 * }</pre>
 *
 * @param bitsPerWeight of all tensors of the model together, those that keep their type included
 * @param types         that matrices may get, each those that its rows fit and that can be made of it
 * @param own           whether a matrix may also stay as it is
 * @param ends          whether embedding and output matrices take part; nothing is learned about their inputs, so that errors in them count
 *                      alike and 2 of 4 weights are chosen by magnitude
 * @param method        what prunes for sparse types
 * @param generations   of the search
 * @param offspring     candidates of each generation
 * @param initial       first candidates: mixes around one number of bits for all matrices
 * @param stages        of each generation; the first candidates are tried on as many tokens as the first stage has. Where the text has
 *                      fewer tokens, all of it is a stage
 * @param seed          of all random choices
 */
public record TypeSearch(double bitsPerWeight, List<GgmlType> types, boolean own, boolean ends, Method method, int generations,
        int offspring, int initial, List<Stage> stages, long seed) {
    /** What matrices may get unless told otherwise. */
    public static final List<GgmlType> TYPES = List.of(GgmlType.S24_T, GgmlType.IQ2_XS, GgmlType.Q2_K, GgmlType.IQ3_XXS, GgmlType.S24_Q4,
            GgmlType.Q3_K, GgmlType.IQ4_XS, GgmlType.Q4_0, GgmlType.Q4_K, GgmlType.S24_Q8, GgmlType.Q5_0, GgmlType.Q5_K, GgmlType.Q6_K,
            GgmlType.Q8_0);

    /** Of so many windows one is kept to judge what was found. */
    private static final int HELD_OUT = 8;
    private static final int CELLS = 256;

    /**
     * What a search may use.
     *
     * @param threads     CPU threads that evaluate, 0 for all cores
     * @param gramMemory  bytes that Gram matrices may take together; at least one is held
     * @param logitMemory bytes that the model's logits may take, 4 for each token of the vocabulary at each position; of a longer text some
     *                    windows are used
     * @param folder      for the matrices in all types
     * @param progress    told about roundings and evaluations
     */
    public record Resources(int threads, long gramMemory, long logitMemory, Path folder, Progress progress) {
        /** All cores, half of the Java heap, {@link Divergence#DEFAULT_MEMORY}, the folder for temporary files; tells nobody. */
        public static Resources usual() {
            return new Resources(0, Runtime.getRuntime().maxMemory() / 2, Divergence.DEFAULT_MEMORY,
                    Path.of(System.getProperty("java.io.tmpdir")), Progress.NONE);
        }
    }

    /**
     * What was found.
     *
     * @param plan       for {@link PlannedQuantizer}, with the divergence on the held-out windows
     * @param fixed      matrices that kept their type because nothing else was possible, with the reason
     * @param divergence on the last sample of the search, in nats per token
     * @param heldOut    on windows of the text that candidates were not tried on, although the roundings saw them
     * @param tokens     tokens evaluated for candidates
     * @param notFinite  evaluations that gave NaN or infinity; their candidates were dropped
     */
    public record Result(TypePlan plan, Map<String, String> fixed, double divergence, double heldOut, long tokens, int notFinite) {
    }

    public TypeSearch {
        if (!(bitsPerWeight > 0 && bitsPerWeight < 64)) {
            throw new IllegalArgumentException(bitsPerWeight + " bits per weight; more than 0 and less than 64 make sense");
        }
        types = List.copyOf(new LinkedHashSet<>(types));
        if (types.isEmpty()) {
            throw new IllegalArgumentException("no types to choose from");
        }
        for (var type : types) {
            if (!BlockQuantizer.supports(type)) {
                throw new IllegalArgumentException("nothing can be quantised to " + type.label());
            }
        }
        stages = List.copyOf(stages);
        tournament(generations, offspring, initial, stages, seed);  // refuses the rest
    }

    /** A search among {@link #TYPES} with 60 generations of 16, tried on 512 tokens and the best 4 on 4096, and seed 1. */
    public static TypeSearch to(double bitsPerWeight) {
        return new TypeSearch(bitsPerWeight, TYPES, false, true, Method.SPARSEGPT, 60, 16, 32,
                List.of(new Stage(4, 512), new Stage(1, 4096)), 1);
    }

    public TypeSearch withTypes(List<GgmlType> types) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withOwn(boolean own) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withEnds(boolean ends) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withMethod(Method method) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withGenerations(int generations) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withOffspring(int offspring) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    public TypeSearch withInitial(int candidates) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, candidates, stages, seed);
    }

    public TypeSearch withStages(Stage... stages) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, List.of(stages), seed);
    }

    public TypeSearch withSeed(long seed) {
        return new TypeSearch(bitsPerWeight, types, own, ends, method, generations, offspring, initial, stages, seed);
    }

    private static Tournament tournament(int generations, int offspring, int initial, List<Stage> stages, long seed) {
        return new Tournament(generations, offspring, initial, stages.isEmpty() ? 1 : stages.getFirst().tokens(), stages, seed);
    }

    /**
     * Runs the search. Blocks until it is done; all processors compute.
     *
     * @param in          a GGUF file in F32, F16 or BF16; of a split model the first part
     * @param text        where the calibration text is, which the plan tells
     * @param calibration the text itself
     * @throws io.github.panamallama.runtime.gguf.GgufException if the model is missing or broken
     * @throws LlamaException if the size can't be reached, which says the range that can; a matrix is quantised already or has weights that
     *                        aren't finite; the text is too short; the model's inputs can't be read; there is no room for the matrices; or
     *                        no candidate can be judged
     */
    public Result run(Path in, Path text, Calibration calibration, Resources resources) {
        var source = SourceModel.read(in);
        var columns = new LinkedHashMap<String, Integer>();
        for (var tensor : source.tensors().values()) {
            if (tensor.isBlockMatrix()) {
                columns.put(tensor.name(), tensor.columns());
            }
            if (tensor.isBlockMatrix() || ends && tensor.isEnd()) {
                tensor.requireFloats(false);
            }
        }
        try (var trial = TrialModel.load(in)) {
            var windows = calibration.cut(trial.model().vocabulary());
            Levels levels;
            var fixed = new LinkedHashMap<String, String>();
            Budget budget;
            try (var activations = Activations.open(trial.model(), columns, calibration, resources.threads, resources.progress)) {
                var matrices = source.tensors().values().stream().filter(tensor -> tensor.isBlockMatrix() || tensor.isEnd()).toList();
                var rounding = new Rounding(method, activations, matrices, matrices, resources.gramMemory);
                var choices = choices(matrices, rounding, fixed);
                budget = budget(source, choices);
                levels = Levels.round(choices, rounding, resources.folder, resources.progress);
            }
            try (levels; var trials = new Trials(trial, levels.units(), windows, resources)) {
                return search(source, text, calibration, resources, fixed, budget, levels.units(), trials);
            }
        }
    }

    /** What the units may take, in bytes. */
    private record Budget(TypeSwitches switches, long fixedBytes, long weights) {
        double bitsPerWeight(long unitBytes) {
            return 8.0 * (fixedBytes + unitBytes) / weights;
        }
    }

    private List<Levels.Choice> choices(List<SourceModel.Tensor> matrices, Rounding rounding, Map<String, String> fixed) {
        var choices = new ArrayList<Levels.Choice>();
        for (var matrix : matrices) {
            if (matrix.isEnd() && !ends) {
                continue;
            }
            var possible = types.stream().filter(type -> type == matrix.info().type() || possible(matrix, type, rounding)).toList();
            if (possible.isEmpty()) {
                fixed.put(matrix.name(), "its rows of " + matrix.columns()
                        + (rounding.weighs(matrix) ? "" : ", of whose inputs nothing is known,") + " fit none of the types");
                continue;
            }
            if (own && !possible.contains(matrix.info().type())) {
                possible = new ArrayList<>(possible);
                possible.add(matrix.info().type());
            }
            choices.add(new Levels.Choice(matrix, possible));
        }
        if (choices.isEmpty()) {
            throw new LlamaException("no matrix can get another type" + (fixed.isEmpty() ? "" : ": \"" + fixed.keySet().iterator().next()
                    + "\" can't, because " + fixed.values().iterator().next()));
        }
        return choices;
    }

    private boolean possible(SourceModel.Tensor matrix, GgmlType type, Rounding rounding) {
        boolean blind = !rounding.weighs(matrix);
        return matrix.fits(type) && !(blind && BlockQuantizer.needsImportance(type))
                && !(blind && type.isSparse() && method != Method.MAGNITUDE && !matrix.isEnd());
    }

    private Budget budget(SourceModel source, List<Levels.Choice> choices) {
        long weights = 0;
        long fixedBytes = 0;
        for (var tensor : source.tensors().values()) {
            weights += tensor.info().elementCount();
            fixedBytes += tensor.info().byteSize();
        }
        var elements = new long[choices.size()];
        var bytes = new long[choices.size()][];
        long least = 0;
        long most = 0;
        for (int i = 0; i < elements.length; i++) {
            var choice = choices.get(i);
            fixedBytes -= choice.matrix().info().byteSize();
            elements[i] = choice.matrix().info().elementCount();
            bytes[i] = new long[choice.types().size()];
            Arrays.setAll(bytes[i], choice::bytes);
            least += bytes[i][0];
            most += bytes[i][bytes[i].length - 1];
        }
        long wanted = (long) (bitsPerWeight * weights / 8) - fixedBytes;
        if (wanted < least || wanted > most) {
            throw new LlamaException(String.format(Locale.ROOT,
                    "%s bits per weight can't be reached: with these types %s can have %.3f to %.3f", bitsPerWeight, source.path(),
                    Math.ceil(8000.0 * (fixedBytes + least) / weights) / 1000,
                    Math.floor(8000.0 * (fixedBytes + most) / weights) / 1000));
        }
        return new Budget(new TypeSwitches(elements, bytes, wanted), fixedBytes, weights);
    }

    private Result search(SourceModel source, Path text, Calibration calibration, Resources resources, Map<String, String> fixed,
            Budget budget, List<Levels.Unit> units, Trials trials) {
        var own = stages.stream().map(stage -> new Stage(stage.survivors(), Math.min(stage.tokens(), trials.tokens()))).toList();
        var tournament = tournament(generations, offspring, initial, own, seed);
        var done = new int[1];
        var found = tournament.run(budget.switches, trials, step -> resources.progress.update(
                "generation " + step.generation() + " of " + generations, Math.min(++done[0], tournament.evaluations() - 1),
                tournament.evaluations()));
        double heldOut = trials.heldOut(found.best());
        resources.progress.update("search", 1, 1);
        var types = new LinkedHashMap<String, GgmlType>();
        source.tensors().values().stream().filter(tensor -> tensor.isBlockMatrix() || tensor.isEnd())
                .forEach(tensor -> types.put(tensor.name(), tensor.info().type()));
        for (int i = 0; i < units.size(); i++) {
            types.put(units.get(i).matrix().name(), units.get(i).levels().get(found.best().level(i)).type());
        }
        var plan = new TypePlan(source.fingerprint(), source.path().getFileName().toString(), method,
                Optional.of(TypePlan.Text.of(text, calibration)),
                new TypePlan.Found("TypeSearch", budget.bitsPerWeight(budget.switches.bytes(found.best())), OptionalLong.of(seed),
                        OptionalDouble.of(heldOut)), types);
        return new Result(plan, fixed, found.fitness(), heldOut, found.tokens(), found.notFinite());
    }

    /** Judges candidates on windows of the text. */
    private static final class Trials implements Tournament.Fitness<TypeSwitches.Choice>, AutoCloseable {
        private final TrialModel trial;
        private final List<Levels.Unit> units;
        private final EngineOptions options;
        private final Divergence divergence;
        private final List<Integer> lengths;
        private final List<Slice> heldOut = new ArrayList<>();
        /** Of each unit the level that the model has now; -1 for that of the file. */
        private final int[] now;

        Trials(TrialModel trial, List<Levels.Unit> units, List<int[]> windows, Resources resources) {
            this.trial = trial;
            this.units = units;
            now = new int[units.size()];
            Arrays.fill(now, -1);
            int window = windows.getFirst().length;
            int vocabulary = trial.model().vocabulary().size();
            options = EngineOptions.defaults().withContextSize(Math.max(window, CELLS)).withMaxSequences(1).withThreads(resources.threads);
            int count = (int) Math.clamp(resources.logitMemory / ((long) window * vocabulary * Float.BYTES), 1, windows.size());
            var used = new ArrayList<int[]>();
            for (int i = 0; i < count; i++) {
                used.add(windows.get((int) ((long) i * windows.size() / count)));
            }
            int kept = Math.max(1, count / HELD_OUT);
            lengths = used.subList(0, count - kept).stream().map(tokens -> tokens.length).toList();
            for (int i = count - kept; i < count; i++) {
                heldOut.add(new Slice(i, used.get(i).length));
            }
            if (lengths.isEmpty()) {
                throw new LlamaException("the logits of two windows of " + window + " tokens take more than " + resources.logitMemory
                        + " bytes; use shorter windows or allow more");
            }
            divergence = new Divergence(used, vocabulary, resources.logitMemory);
            try (var engine = Engine.open(trial.model(), options)) {
                for (int i = 0; i < count; i++) {
                    try (var sequence = engine.newSequence()) {
                        divergence.refer(i, sequence);
                    }
                    resources.progress.update("the model's own logits", i + 1, count);
                }
            }
        }

        int tokens() {
            return lengths.stream().mapToInt(Integer::intValue).sum();
        }

        @Override
        public List<Integer> lengths() {
            return lengths;
        }

        double heldOut(TypeSwitches.Choice choice) {
            return of(choice, heldOut);
        }

        @Override
        public double of(TypeSwitches.Choice choice, List<Slice> sample) {
            for (int i = 0; i < now.length; i++) {
                if (now[i] != choice.level(i)) {
                    var level = units.get(i).levels().get(choice.level(i));
                    trial.replace(units.get(i).matrix().name(), level.type(), level.blocks());
                    now[i] = choice.level(i);
                }
            }
            double sum = 0;
            long positions = 0;
            try (var engine = Engine.open(trial.model(), options)) {
                for (var slice : sample) {
                    try (var sequence = engine.newSequence()) {
                        sum += divergence.sum(sequence, slice);
                    }
                    positions += slice.tokens();
                }
            }
            return sum / positions;
        }

        /** The model points into memory that is about to go; it must not be evaluated any more. */
        @Override
        public void close() {
            trial.close();
        }
    }
}
