package io.github.panamallama;

import io.github.panamallama.layers.Router;
import io.github.panamallama.layers.RouterFile;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import java.nio.file.Path;

/**
 * Plans by a trained router that is in a file, which is read when it first has to choose for a model. A {@link PlanChooser} that is data:
 * a worker process takes it too. Any number of threads may use it.
 */
public final class RoutedPlans implements PlanChooser {
    private final Path file;
    private Model model;
    private Router router;

    private RoutedPlans(Path file) {
        this.file = file;
    }

    /** @param file of {@link RouterFile#write} */
    public static RoutedPlans of(Path file) {
        return new RoutedPlans(file.toAbsolutePath().normalize());
    }

    /** Where the router is. */
    public Path file() {
        return file;
    }

    /** @throws io.github.panamallama.runtime.LlamaException if the file can't be read or holds no router for the engine's model */
    @Override
    public LayerPlan choose(Engine engine, int[] prompt) {
        return router(engine.model()).plan(engine, prompt);
    }

    private synchronized Router router(Model of) {
        if (model != of) {
            router = RouterFile.read(file, of);
            model = of;
        }
        return router;
    }

    @Override
    public String toString() {
        return "plans by " + file;
    }
}
