import de.kherud.llama.InferenceParameters;
import de.kherud.llama.LlamaModel;
import de.kherud.llama.ModelParameters;
import java.nio.file.Files;
import java.nio.file.Path;

/** Kherud MODEL PROMPT-FILE TOKENS THREADS: a greedy text, piece by piece; the last line tells its times. */
class Kherud {
    public static void main(String[] args) throws Exception {
        var prompt = Files.readString(Path.of(args[1]));
        int tokens = Integer.parseInt(args[2]);
        var options = new ModelParameters().setModel(args[0]).setCtxSize(1024).setThreads(Integer.parseInt(args[3]))
                .setThreadsBatch(Integer.parseInt(args[3])).setGpuLayers(0);
        try (var model = new LlamaModel(options)) {
            for (var piece : model.generate(parameters(prompt, 8))) {
                // warms up
            }
            var times = new long[tokens + 2];
            int pieces = 0;
            times[pieces++] = System.nanoTime();
            for (var piece : model.generate(parameters("\n" + prompt, tokens))) {
                if (pieces <= tokens) {
                    times[pieces++] = System.nanoTime();
                }
            }
            System.out.println("times %d %d %d".formatted(times[1] - times[0], times[pieces - 1] - times[1], pieces - 2));
        }
        System.exit(0);     // a thread of its native code would keep the JVM
    }

    private static InferenceParameters parameters(String prompt, int tokens) {
        return new InferenceParameters(prompt).setNPredict(tokens).setTemperature(0).setIgnoreEos(true).setCachePrompt(false);
    }
}
