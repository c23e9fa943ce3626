package io.github.panamallama.examples.cli;

import io.github.panamallama.ControlFiles;
import io.github.panamallama.layers.DraftAcceptance;
import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/**
 * Perplexity as llama.cpp's {@code llama-perplexity} defines it (tools/perplexity/perplexity.cpp): the text is cut into windows of
 * the context size without overlap; in each the first half is context only and the rest but its last token is scored; where the
 * vocabulary begins texts with BOS, the first token of every window is replaced by it. The figure after {@code +/-} is the standard
 * error of the mean log-likelihood times the perplexity.
 */
@Command(name = "perplexity", description = "Perplexity of a text under a model, as llama.cpp's llama-perplexity computes it.")
final class PerplexityCommand implements Callable<Integer> {
    /** Most bytes of logits held for windows that are evaluated together. */
    private static final long ROW_BYTES = 1L << 29;
    /** Positions that are drafted behind in one batch, each on a fork of its window. */
    private static final int DRAFTS = 64;

    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private ModelMixin model;

    @Mixin
    private AdapterMixin adapters;

    @Mixin
    private LayersMixin layers;

    @Mixin
    private ControlMixin control;

    @Option(names = "--self-draft", paramLabel = "PLAN", description = "Also tell what drafts by these of the model's blocks alone are "
            + "worth on this text: the share of the scored positions where their likeliest token is that of the model.")
    private String drafts;

    @Mixin
    private EngineMixin engine;

    @Parameters(paramLabel = "FILE", description = "A text of at least two windows.")
    private Path file;

    @Option(names = "--chunks", paramLabel = "N", description = "Windows to evaluate; all without it.")
    private int chunks = Integer.MAX_VALUE;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Override
    public Integer call() {
        if (chunks < 1) {
            throw new ParameterException(spec.commandLine(), "--chunks must be at least 1, not " + chunks);
        }
        var text = Sources.read(file);
        int window = engine.contextSize(512);
        if (window < 4) {
            throw new ParameterException(spec.commandLine(), "a window needs at least 4 tokens; -c is " + window);
        }
        adapters.check(spec.commandLine());
        layers.checkPlan(spec.commandLine());
        var controls = control.files(spec.commandLine());
        int batch = Math.max(engine.batchSize(2048), window);
        var widest = layers.options(spec.commandLine(), engine.options(spec.commandLine())).withContextSize(batch).withBatchSize(batch);
        try (var loaded = model.load(main, widest); var opened = new Opened(loaded)) {
            var drafting = drafts == null ? null : SelfDraftMixin.parse(spec.commandLine(), drafts, loaded);
            var under = adapters.set(spec.commandLine(), opened::load);
            var vocabulary = loaded.vocabulary();
            if (vocabulary.addsEos()) {
                throw new CommandException("this vocabulary ends every text with EOS, which would be scored; its perplexity isn't defined here");
            }
            var tokens = vocabulary.tokenize(text, true, false);
            if (tokens.length < 2 * window) {
                throw new CommandException("%s has %d tokens; a context of %d needs at least %d (a smaller -c needs fewer)"
                        .formatted(file, tokens.length, window, 2 * window));
            }
            long rowBytes = (window - window / 2) * 4L * vocabulary.size();
            int together = (int) Math.max(1, Math.min(batch / window, ROW_BYTES / rowBytes));
            int count = Math.min(chunks, tokens.length / window);
            together = Math.min(together, count);
            int forks = drafting == null ? 0 : DRAFTS;
            var options = layers.options(spec.commandLine(), engine.options(spec.commandLine()))
                    .withContextSize(window * together + forks).withBatchSize(batch).withMaxSequences(together + forks);
            try (var evaluating = Engine.open(loaded, options, ControlMixin.vector(spec.commandLine(), controls, loaded))) {
                score(evaluating, controls, under, layers.plan(spec.commandLine(), loaded), drafting, tokens, window, together, count);
            }
        }
        return Main.OK;
    }

    /** Adapters that are closed before their model. */
    private record Opened(Model model, List<Adapter> adapters) implements AutoCloseable {
        Opened(Model model) {
            this(model, new ArrayList<>());
        }

        Adapter load(Path file) {
            var adapter = Adapter.load(model, file);
            adapters.add(adapter);
            return adapter;
        }

        @Override
        public void close() {
            adapters.forEach(Adapter::close);
        }
    }

    private void score(Engine engine, ControlFiles controls, AdapterSet under, LayerPlan plan, LayerPlan drafting, int[] tokens, int window,
            int together, int count) {
        int first = window / 2;
        var vocabulary = engine.model().vocabulary();
        var sum = new Sum();
        int accepted = 0;
        var rows = new Row[together][window];
        for (var ofWindow : rows) {
            for (int i = first; i < window - 1; i++) {
                ofWindow[i] = new Row(vocabulary.size());
            }
        }
        long start = System.nanoTime();
        for (int chunk = 0; chunk < count; chunk += together) {
            int now = Math.min(together, count - chunk);
            var sequences = new Sequence[now];
            var appends = new Append[now];
            try {
                for (int s = 0; s < now; s++) {
                    var part = Arrays.copyOfRange(tokens, (chunk + s) * window, (chunk + s + 1) * window);
                    if (vocabulary.addsBos()) {
                        part[0] = vocabulary.bos();
                    }
                    sequences[s] = plan == null ? engine.newSequence(under) : engine.newSequence(under, plan);
                    appends[s] = Append.all(sequences[s], part, rows[s]);
                }
                main.interrupts().onInterrupt(() -> Arrays.stream(sequences).forEach(Sequence::cancel));
                engine.decode(appends);
                for (int s = 0; drafting != null && s < now && !main.interrupts().raised(); s++) {
                    accepted += DraftAcceptance.count(sequences[s], drafting, rows[s], first, window - 1, DRAFTS);
                }
            } finally {
                main.interrupts().onInterrupt(() -> { });
                for (var sequence : sequences) {
                    if (sequence != null) {
                        sequence.close();
                    }
                }
            }
            for (int s = 0; s < now; s++) {
                for (int i = first; i < window - 1; i++) {
                    var row = rows[s][i];
                    sum.add(RowMath.logSumExp(row) - row.get(tokens[(chunk + s) * window + i + 1]));
                }
                main.shell().err().printf(Locale.ROOT, "[%d]%.4f,", chunk + s + 1, sum.perplexity());
            }
        }
        main.shell().err().println();
        double seconds = (System.nanoTime() - start) / 1e9;
        if (json) {
            var document = new LinkedHashMap<String, Object>();
            document.put("adapters", AdapterChoice.describe(under));
            document.put("layers", LayersMixin.describe(plan));
            document.put("control_vectors", ControlMixin.describe(controls));
            document.put("ppl", sum.perplexity());
            document.put("ppl_stderr", sum.error());
            document.put("n_ctx", window);
            document.put("n_chunks", count);
            document.put("n_scored", sum.count);
            document.put("n_tokens", tokens.length);
            document.put("seconds", seconds);
            if (drafting != null) {
                var draft = new LinkedHashMap<String, Object>();
                draft.put("layers", drafting.toString());
                draft.put("acceptance", accepted / (double) sum.count);
                document.put("self_draft", draft);
            }
            main.shell().println(Json.write(document));
        } else {
            main.shell().println(String.format(Locale.ROOT, "Final estimate: PPL = %.4f +/- %.5f", sum.perplexity(), sum.error()));
            if (drafting != null) {
                double share = accepted / (double) sum.count;
                main.shell().println(String.format(Locale.ROOT, "Self-draft %s: %.2f %% +/- %.2f of the drafted tokens would be accepted",
                        drafting, 100 * share, 100 * Math.sqrt(share * (1 - share) / sum.count)));
            }
        }
    }

    /** Negative log-likelihoods in nats. */
    private static final class Sum {
        private double total;
        private double squares;
        private int count;

        void add(double nats) {
            total += nats;
            squares += nats * nats;
            count++;
        }

        double perplexity() {
            return Math.exp(total / count);
        }

        double error() {
            double mean = total / count;
            double variance = squares / count - mean * mean;
            return variance > 0 && count > 1 ? Math.sqrt(variance / (count - 1)) * perplexity() : 0;
        }
    }
}
