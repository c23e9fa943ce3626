package io.github.panamallama.hub;

import java.nio.file.Path;
import java.util.List;

/**
 * A model in the cache folder.
 *
 * @param model    its name, with the quantisation
 * @param files    its parts in order; the first is what loads the model
 * @param bytes    all files together
 * @param endpoint where it came from
 */
public record PulledModel(HubModel model, List<Path> files, long bytes, String endpoint) {
    public PulledModel {
        files = List.copyOf(files);
    }

    /** What to load. */
    public Path path() {
        return files.getFirst();
    }
}
