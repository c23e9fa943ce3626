package io.github.panamallama.sampling.grammar;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_params;
import io.github.panamallama.bindings.llama_token_data;
import io.github.panamallama.bindings.llama_token_data_array;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * llama.cpp's own grammar engine, in a JVM of its own because it may end the process, overflow its stack or never return.
 * {@link #main} is the other end.
 */
final class UpstreamGrammar implements AutoCloseable {
    /**
     * What it says of one text.
     *
     * @param tokens   tokens of the text that it allows one after the other
     * @param complete whether it allows all of them and then the end
     * @param masks    allowed tokens before each token and after the last, where asked for
     */
    record Verdict(int tokens, boolean complete, List<long[]> masks) {}

    private static final int MARK = 0x7e57ab1e;

    private final Path vocabulary;
    private Process process;
    private DataOutputStream to;
    private DataInputStream from;

    UpstreamGrammar(Path vocabulary) {
        this.vocabulary = vocabulary;
    }

    /**
     * The verdicts on texts given as tokens; null if the grammar is refused.
     *
     * @throws EOFException     if the engine ended its process
     * @throws TimeoutException if it takes longer than {@code seconds}; its process was ended
     */
    List<Verdict> check(String grammar, List<int[]> texts, boolean masks, int seconds) throws IOException, TimeoutException {
        if (process == null || !process.isAlive()) {
            start();
        }
        var watched = process;
        var late = new AtomicBoolean();
        var timer = Thread.ofVirtual().start(() -> {
            try {
                TimeUnit.SECONDS.sleep(seconds);
                late.set(true);
                watched.destroyForcibly();
            } catch (InterruptedException e) {
                // answered in time
            }
        });
        try {
            var bytes = grammar.getBytes(StandardCharsets.UTF_8);
            to.writeInt(bytes.length);
            to.write(bytes);
            to.writeBoolean(masks);
            to.writeInt(texts.size());
            for (var text : texts) {
                to.writeInt(text.length);
                for (int token : text) {
                    to.writeInt(token);
                }
            }
            to.flush();
            expectMark();
            if (!from.readBoolean()) {
                return null;
            }
            var verdicts = new ArrayList<Verdict>();
            for (int i = 0; i < texts.size(); i++) {
                expectMark();
                int tokens = from.readInt();
                boolean complete = from.readBoolean();
                var all = new ArrayList<long[]>();
                for (int n = from.readInt(); n > 0; n--) {
                    var mask = new long[from.readInt()];
                    for (int w = 0; w < mask.length; w++) {
                        mask[w] = from.readLong();
                    }
                    all.add(mask);
                }
                verdicts.add(new Verdict(tokens, complete, all));
            }
            return verdicts;
        } catch (IOException e) {
            process.destroyForcibly();
            process = null;
            if (late.get()) {
                throw new TimeoutException("no answer within " + seconds + " s");
            }
            throw new EOFException("llama.cpp's engine ended its process");
        } finally {
            timer.interrupt();
        }
    }

    /** Native code that ends the process may print a stack trace where answers are expected. */
    private void expectMark() throws IOException {
        if (from.readInt() != MARK) {
            throw new EOFException();
        }
    }

    private void start() throws IOException {
        var java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        process = new ProcessBuilder(java, "--enable-native-access=ALL-UNNAMED", "-Xmx256m", "-cp",
                System.getProperty("surefire.test.class.path",
                System.getProperty("java.class.path")), UpstreamGrammar.class.getName(), vocabulary.toString())
                .redirectError(ProcessBuilder.Redirect.DISCARD).start();
        to = new DataOutputStream(new BufferedOutputStream(process.getOutputStream()));
        from = new DataInputStream(new BufferedInputStream(process.getInputStream()));
        from.readInt(); // ready
    }

    @Override
    public void close() {
        if (process != null) {
            process.destroyForcibly();
        }
    }

    // ---- the other process

    public static void main(String[] args) throws IOException {
        var in = new DataInputStream(new BufferedInputStream(System.in));
        var out = new DataOutputStream(new BufferedOutputStream(System.out));
        RowMath.argmax(new Row(1)); // loads the natives
        try (var arena = Arena.ofConfined()) {
            var params = LlamaH.llama_model_default_params(arena);
            llama_model_params.vocab_only(params, true);
            var model = LlamaH.llama_model_load_from_file(arena.allocateFrom(args[0]), params);
            var vocab = LlamaH.llama_model_get_vocab(model);
            int n = LlamaH.llama_vocab_n_tokens(vocab);
            var data = llama_token_data.allocateArray(n, arena);
            var array = llama_token_data_array.allocate(arena);
            llama_token_data_array.data(array, data);
            var root = arena.allocateFrom("root");
            out.writeInt(n);
            out.flush();
            while (true) {
                int length;
                try {
                    length = in.readInt();
                } catch (EOFException e) {
                    return;
                }
                var grammar = new String(in.readNBytes(length), StandardCharsets.UTF_8);
                boolean masks = in.readBoolean();
                var texts = new int[in.readInt()][];
                for (int i = 0; i < texts.length; i++) {
                    texts[i] = new int[in.readInt()];
                    for (int k = 0; k < texts[i].length; k++) {
                        texts[i][k] = in.readInt();
                    }
                }
                MemorySegment sampler;
                try (var scratch = Arena.ofConfined()) {
                    sampler = LlamaH.llama_sampler_init_grammar(vocab, scratch.allocateFrom(grammar), root);
                }
                out.writeInt(MARK);
                out.writeBoolean(sampler.address() != 0);
                for (int i = 0; i < texts.length && sampler.address() != 0; i++) {
                    check(vocab, LlamaH.llama_sampler_clone(sampler), texts[i], masks, data, array, n, out);
                }
                out.flush();
                if (sampler.address() != 0) {
                    LlamaH.llama_sampler_free(sampler);
                }
            }
        }
    }

    private static void check(MemorySegment vocab, MemorySegment sampler, int[] text, boolean masks, MemorySegment data,
            MemorySegment array, int n, DataOutputStream out) throws IOException {
        var all = new ArrayList<long[]>();
        int tokens = 0;
        while (true) {
            if (masks) {
                all.add(mask(sampler, data, array, n));
            }
            if (tokens == text.length || !allows(sampler, text[tokens], data, array)) {
                break;
            }
            LlamaH.llama_sampler_accept(sampler, text[tokens++]);
        }
        out.writeInt(MARK);
        out.writeInt(tokens);
        out.writeBoolean(tokens == text.length && allows(sampler, LlamaH.llama_vocab_eos(vocab), data, array));
        out.writeInt(all.size());
        for (var mask : all) {
            out.writeInt(mask.length);
            for (long word : mask) {
                out.writeLong(word);
            }
        }
        LlamaH.llama_sampler_free(sampler);
    }

    private static boolean allows(MemorySegment sampler, int token, MemorySegment data, MemorySegment array) {
        set(data, 0, token);
        apply(sampler, array, 1);
        return llama_token_data.logit(llama_token_data.asSlice(data, 0)) == 0;
    }

    private static long[] mask(MemorySegment sampler, MemorySegment data, MemorySegment array, int n) {
        for (int t = 0; t < n; t++) {
            set(data, t, t);
        }
        apply(sampler, array, n);
        var mask = new long[n + 63 >> 6];
        for (int t = 0; t < n; t++) {
            if (llama_token_data.logit(llama_token_data.asSlice(data, t)) == 0) {
                mask[t >> 6] |= 1L << t;
            }
        }
        return mask;
    }

    private static void set(MemorySegment data, int at, int token) {
        var slot = llama_token_data.asSlice(data, at);
        llama_token_data.id(slot, token);
        llama_token_data.logit(slot, 0);
    }

    private static void apply(MemorySegment sampler, MemorySegment array, int n) {
        llama_token_data_array.size(array, n);
        llama_token_data_array.selected(array, -1);
        llama_token_data_array.sorted(array, false);
        LlamaH.llama_sampler_apply(sampler, array);
    }
}
