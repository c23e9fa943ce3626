import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.sampling.SamplerOptions;
import java.nio.file.Files;
import java.nio.file.Path;

/** PanamaLlama MODEL PROMPT-FILE TOKENS THREADS: a greedy text, piece by piece; the last line tells its times. */
class PanamaLlama {
    public static void main(String[] args) throws Exception {
        var prompt = Files.readString(Path.of(args[1]));
        int tokens = Integer.parseInt(args[2]);
        var options = LlamaOptions.defaults().withContextSize(1024).withThreads(Integer.parseInt(args[3]));
        try (var llama = Llama.load(Path.of(args[0]), options)) {
            var sampling = SamplerOptions.greedy();
            for (int token : llama.model().vocabulary().endOfGeneration()) {
                sampling = sampling.withLogitBias(token, Float.NEGATIVE_INFINITY);
            }
            var generation = GenerationOptions.defaults().withSampling(sampling);
            llama.complete(prompt, generation.withMaxTokens(8)).text();
            var times = new long[tokens + 1];
            int pieces = 0;
            times[pieces++] = System.nanoTime();
            for (var piece : llama.complete("\n" + prompt, generation.withMaxTokens(tokens))) {
                times[pieces++] = System.nanoTime();
            }
            System.out.println("times %d %d %d".formatted(times[1] - times[0], times[pieces - 1] - times[1], pieces - 2));
        }
    }
}
