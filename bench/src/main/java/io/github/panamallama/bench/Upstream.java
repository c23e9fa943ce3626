package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalDouble;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Upstream's own programs, built from the same vendored tree with the same flags as our natives. */
final class Upstream {
    private static final JsonMapper JSON = JsonMapper.shared();
    private static final Pattern PROMPT_TIME =
            Pattern.compile("prompt eval time = +([\\d.]+) ms / +(\\d+) tokens");
    private static final Pattern EVAL_TIME = Pattern.compile("  eval time = +([\\d.]+) ms / +(\\d+) runs");
    private static final Pattern SAMPLING_TIME = Pattern.compile("sampling time = +([\\d.]+) ms");
    private static final Pattern TOTAL_TIME = Pattern.compile("total time = +([\\d.]+) ms");
    private static final Pattern SYSTEM_INFO = Pattern.compile("system_info: (.*)");

    private final Path folder;

    private Upstream(Path folder) {
        this.folder = folder;
    }

    /**
     * Builds the programs where that has not been done yet (some minutes) and finds them.
     *
     * @param home      root of the project's checkout
     * @param unpatched exactly as released, without this project's kernels and patches
     */
    static Upstream build(Path home, boolean unpatched) throws IOException, InterruptedException {
        var script = home.resolve("ggml-src").resolve("build");
        var command = unpatched ? List.of(script.toString(), "--tools", "--unpatched") : List.of(script.toString(), "--tools");
        var lines = Programs.run(home, command).out().lines()
                .map(String::strip).filter(line -> !line.isEmpty()).toList();
        if (lines.isEmpty()) {
            throw new IOException(script + " --tools printed no folder");
        }
        var folder = Path.of(lines.getLast());
        for (var candidate : List.of(folder.resolve("bin"), folder)) {
            if (Files.isExecutable(candidate.resolve("llama-bench"))) {
                return new Upstream(candidate);
            }
        }
        throw new IOException("no llama-bench in " + folder + ", which " + script + " --tools printed");
    }

    Path folder() {
        return folder;
    }

    /** The command of one measurement; {@code llama-bench} and our own {@code bench} understand the same options. */
    static List<String> benchArguments(Path model, int prompt, int generate, int threads, int repetitions) {
        return List.of("-m", model.toString(), "-p", Integer.toString(prompt), "-n", Integer.toString(generate),
                "-t", Integer.toString(threads), "-r", Integer.toString(repetitions));
    }

    /** Runs {@code llama-bench}. */
    BenchResult bench(Path model, int prompt, int generate, int threads, int repetitions)
            throws IOException, InterruptedException {
        var command = new ArrayList<String>();
        command.add(folder.resolve("llama-bench").toString());
        command.addAll(benchArguments(model, prompt, generate, threads, repetitions));
        command.addAll(List.of("-o", "json"));
        return BenchResult.parse(Programs.run(folder, command).out());
    }

    /** Runs {@code llama-bench} for prompts of the given lengths; their tokens per second, median of the repetitions. */
    double[] prompts(Path model, int[] lengths, int threads, int repetitions) throws IOException, InterruptedException {
        var rates = new double[lengths.length];
        var list = Arrays.stream(lengths).mapToObj(Integer::toString).collect(Collectors.joining(","));
        var json = Programs.run(folder, List.of(folder.resolve("llama-bench").toString(), "-m", model.toString(), "-p", list, "-n", "0",
                "-t", Integer.toString(threads), "-r", Integer.toString(repetitions), "-o", "json")).out();
        for (JsonNode test : JSON.readTree(json)) {
            for (int i = 0; i < lengths.length; i++) {
                if (test.path("n_prompt").asInt() == lengths[i]) {
                    rates[i] = BenchResult.rate(test);
                }
            }
        }
        return rates;
    }

    /**
     * What {@code llama-bench -o json} and {@code panama-llama bench --json} print.
     *
     * @param prefill tokens per second of the prompt, median of the repetitions
     * @param decode  tokens per second of single-token decoding, median of the repetitions
     */
    record BenchResult(double prefill, double decode) {
        static BenchResult parse(String json) throws IOException {
            double prefill = 0;
            double decode = 0;
            for (JsonNode test : JSON.readTree(json)) {
                if (test.path("n_prompt").asInt() > 0 && test.path("n_gen").asInt() == 0) {
                    prefill = rate(test);
                } else if (test.path("n_gen").asInt() > 0 && test.path("n_prompt").asInt() == 0) {
                    decode = rate(test);
                }
            }
            if (!(prefill > 0) || !(decode > 0)) {
                throw new IOException("no prefill or decode test in: " + json);
            }
            return new BenchResult(prefill, decode);
        }

        /** The repetitions themselves where they are printed: their mean moves with a single slow one. */
        private static double rate(JsonNode test) {
            var samples = test.path("samples_ts");
            var rates = new double[samples.size()];
            for (int i = 0; i < rates.length; i++) {
                rates[i] = samples.get(i).asDouble();
            }
            return rates.length > 0 ? Statistics.median(rates) : test.path("avg_ts").asDouble();
        }
    }

    /**
     * Runs {@code llama-completion} to exactly {@code work.generate()} tokens, the end-of-generation tokens made unlikely
     * as on our side.
     */
    Completion complete(Path model, GenerationWork work, int threads, long seed) throws IOException, InterruptedException {
        var prompt = Files.createTempFile("prompt", ".txt");
        try {
            Files.writeString(prompt, work.prompt());
            var result = Programs.run(folder, List.of(folder.resolve("llama-completion").toString(),
                    "-m", model.toString(), "-f", prompt.toString(), "-n", Integer.toString(work.generate()),
                    "-c", Integer.toString(work.contextSize()), "-b", "512", "-ub", "512",
                    "-t", Integer.toString(threads), "--seed", Long.toString(seed),
                    "--temp", Float.toString(work.temperature()), "--top-k", Integer.toString(work.topK()),
                    "--top-p", Float.toString(work.topP()), "--min-p", "0", "--repeat-penalty", "1",
                    "--ignore-eos", "-no-cnv", "--no-display-prompt", "--simple-io"));
            return Completion.parse(result.out() + result.error());
        } finally {
            Files.deleteIfExists(prompt);
        }
    }

    /**
     * The timings that {@code llama-completion} prints.
     *
     * @param evalMillis     time in {@code llama_decode} after the prompt
     * @param evaluated      tokens in that time: one less than were drawn, the last is not evaluated
     * @param samplingMillis time in the sampler
     * @param restMillis     everything else since the model was loaded, except for the prompt: tokenising, printing
     */
    record Completion(double evalMillis, int evaluated, double samplingMillis, double restMillis, int promptTokens,
                      String systemInfo) {
        static Completion parse(String output) throws IOException {
            var prompt = PROMPT_TIME.matcher(output);
            var eval = EVAL_TIME.matcher(output);
            if (!prompt.find() || !eval.find()) {
                throw new IOException("no timings in the output of llama-completion:\n" + output);
            }
            double promptMillis = Double.parseDouble(prompt.group(1));
            double evalMillis = Double.parseDouble(eval.group(1));
            double sampling = number(SAMPLING_TIME, output).orElseThrow();
            double total = number(TOTAL_TIME, output).orElseThrow();
            var info = SYSTEM_INFO.matcher(output);
            return new Completion(evalMillis, Integer.parseInt(eval.group(2)), sampling,
                    Math.max(0, total - promptMillis - evalMillis - sampling), Integer.parseInt(prompt.group(2)),
                    info.find() ? info.group(1).strip() : "");
        }

        /** Evaluation and sampling only: the rate that flatters upstream most. */
        double tokensPerSecond() {
            return 1e3 * evaluated / (evalMillis + samplingMillis);
        }

        /** With everything that happened between the end of the prompt's evaluation and the end of the program's work. */
        double tokensPerSecondOverall() {
            return 1e3 * evaluated / (evalMillis + samplingMillis + restMillis);
        }

        private static OptionalDouble number(Pattern pattern, String output) {
            var matcher = pattern.matcher(output);
            return matcher.find() ? OptionalDouble.of(Double.parseDouble(matcher.group(1))) : OptionalDouble.empty();
        }
    }
}
