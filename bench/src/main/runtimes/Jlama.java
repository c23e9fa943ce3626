import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;

/** Jlama MODEL PROMPT-FILE TOKENS THREADS: a greedy text, piece by piece; the last line tells its times. */
class Jlama {
    public static void main(String[] args) throws Exception {
        var prompt = Files.readString(Path.of(args[1]));
        int tokens = Integer.parseInt(args[2]);
        System.setProperty("jlama.num_threads", args[3]);
        AbstractModel model;
        try {
            model = ModelSupport.loadModel(Path.of(args[0]).toFile(), DType.F32, DType.I8);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("it wants a folder of SafeTensors in place of a GGUF file: " + e.getMessage());
        }
        var times = new long[tokens + 2];
        var pieces = new int[1];
        times[pieces[0]++] = System.nanoTime();
        model.generate(UUID.randomUUID(), PromptContext.of(prompt), 0f, tokens, (piece, time) -> {
            if (pieces[0] <= tokens) {
                times[pieces[0]++] = System.nanoTime();
            }
        });
        System.out.println("times %d %d %d".formatted(times[1] - times[0], times[pieces[0] - 1] - times[1], pieces[0] - 2));
    }
}
