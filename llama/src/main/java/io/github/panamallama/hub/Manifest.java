package io.github.panamallama.hub;

import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;

/**
 * What was pulled under a name: a small JSON file in the repository's folder, written last and removed first, so that a model that has one
 * is whole.
 *
 * @param model    with the quantisation
 * @param endpoint where it came from
 * @param files    in the order of the parts
 */
record Manifest(HubModel model, String endpoint, List<RepositoryFile> files) {
    private static final String FOLDER = ".pulled";
    private static final int FORMAT = 1;
    private static final JsonMapper JSON = JsonMapper.builder().build();

    static Path folder(Path repository) {
        return repository.resolve(FOLDER);
    }

    static Path path(Path repository, HubModel model) {
        return folder(repository).resolve(URLEncoder.encode(model.quant().orElseThrow(), StandardCharsets.UTF_8) + ".json");
    }

    void write(Path repository) throws IOException {
        var root = JSON.createObjectNode().put("format", FORMAT).put("model", model.toString()).put("endpoint", endpoint);
        var list = root.putArray("files");
        for (var file : files) {
            list.addObject().put("path", file.path()).put("size", file.size()).put("sha256", file.sha256()).put("blob", file.blob());
        }
        var path = path(repository, model);
        Files.createDirectories(path.getParent());
        var unfinished = Files.createTempFile(path.getParent(), ".manifest", null);
        try {
            Files.writeString(unfinished, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(root) + "\n");
            Files.move(unfinished, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(unfinished);
        }
    }

    /** Empty where the file is none of ours, or a file that it names is gone or has another size. */
    static Optional<Manifest> read(Path path, Path repository) throws IOException {
        try {
            var root = JSON.readTree(Files.readString(path));
            var files = new ArrayList<RepositoryFile>();
            for (var entry : root.path("files")) {
                files.add(new RepositoryFile(entry.path("path").asString(""), entry.path("size").asLong(-1),
                        entry.path("sha256").asString(null), entry.path("blob").asString(null)));
            }
            var model = HubModel.parse(root.path("model").asString(""));
            var manifest = new Manifest(model, root.path("endpoint").asString(""), List.copyOf(files));
            return Optional.of(manifest).filter(found -> root.path("format").asInt(0) == FORMAT && !files.isEmpty()
                    && found.model.quant().isPresent() && files.stream().allMatch(file -> isThere(file, repository)));
        } catch (JacksonException | IllegalArgumentException e) {
            return Optional.empty();
        }
    }

    private static boolean isThere(RepositoryFile file, Path repository) {
        try {
            return RepositoryFile.isSafe(file.path()) && Files.size(repository.resolve(file.path())) == file.size();
        } catch (IOException e) {
            return false;
        }
    }

    /** Whether a listing's choice is what this one describes. */
    boolean describes(List<RepositoryFile> others) {
        return Objects.equals(files, others);
    }

    PulledModel pulled(Path repository) {
        return new PulledModel(model, files.stream().map(file -> repository.resolve(file.path())).toList(),
                files.stream().mapToLong(RepositoryFile::size).sum(), endpoint);
    }
}
