package io.github.panamallama.hub;

import io.github.panamallama.hub.Connection.BrokenException;
import io.github.panamallama.hub.HubException.Reason;
import io.github.panamallama.hub.PullListener.Progress;
import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Models from Hugging Face, or a mirror of it, in a cache folder of this machine.
 *
 * <pre>{@code
 * var model = Hub.open().pull("ggml-org/Qwen2.5-Coder-1.5B-Q8_0-GGUF");     // at once, where it is there already and unchanged
 * try (Llama llama = Llama.load(model.path())) { ... }
 * }</pre>
 *
 * <p>A pull that broke goes on where it was; the content is compared with the hash that the hub gives, and a file has its name only when it
 * is whole and right. Any number of threads and processes may use one folder.
 *
 * <p>Only {@link #pull} uses the network.
 */
public final class Hub {
    private final HubOptions options;

    private Hub(HubOptions options) {
        this.options = options;
    }

    /** With the options that the environment gives. */
    public static Hub open() {
        return open(HubOptions.defaults());
    }

    public static Hub open(HubOptions options) {
        return new Hub(options);
    }

    /** {@link #pull(HubModel, PullListener)} of a name, unnoticed. */
    public PulledModel pull(String model) {
        return pull(HubModel.parse(model), PullListener.NONE);
    }

    /**
     * Brings a model to the cache folder, or what is missing of it. Without a quantisation in the name it takes {@code Q4_K_M}, else
     * {@code Q8_0}, else the first that the repository lists; all parts of a split model.
     *
     * @throws HubException if that can't be done; see {@link HubException.Reason} for what is kept
     */
    public PulledModel pull(HubModel model, PullListener listener) {
        var repository = repository(model);
        try (var lock = RepositoryLock.take(options.folder(), model, listener);
                var connection = new Connection(options, model, listener)) {
            var files = list(connection, model, listener).choose();
            var named = model.quant().isPresent() ? model : model.withQuant(quant(files.getFirst()));
            var path = Manifest.path(repository, named);
            var before = Files.exists(path) ? Manifest.read(path, repository) : Optional.<Manifest>empty();
            if (before.isPresent() && before.get().describes(files)) {
                return before.get().pulled(repository);
            }
            fetch(connection, named, files, listener);
            var manifest = new Manifest(named, options.endpoint().toString(), files);
            manifest.write(repository);
            return manifest.pulled(repository);
        } catch (IOException e) {
            throw storage(e);
        }
    }

    private static String quant(RepositoryFile first) {
        return first.quant().orElse(first.path());
    }

    private Listing list(Connection connection, HubModel model, PullListener listener) {
        for (int failures = 0;; failures++) {
            try {
                return Listing.fetch(connection, model);
            } catch (BrokenException e) {
                connection.cancelled();
                if (failures >= options.retries()) {
                    throw new HubException(Reason.CONNECTION, "can't look " + model.repository() + " up: " + e.getMessage(), e);
                }
                listener.note(e.getMessage() + "; trying again");
                Pause.before(failures, options, connection);
            }
        }
    }

    private void fetch(Connection connection, HubModel model, List<RepositoryFile> files, PullListener listener) throws IOException {
        var repository = repository(model);
        long total = files.stream().mapToLong(RepositoryFile::size).reduce(0, Math::addExact);
        long done = 0;
        for (int i = 0; i < files.size(); i++) {
            var file = files.get(i);
            var target = repository.resolve(file.path());
            Files.createDirectories(target.getParent());
            int part = i + 1;
            long others = done;
            var download = new Download(connection, options, model, file, target, listener,
                    bytes -> listener.progress(new Progress(file.path(), part, files.size(), others + bytes, total)));
            if (!download.isDone()) {
                forget(repository, file);
                download.run();
            }
            done += file.size();
            listener.progress(new Progress(file.path(), part, files.size(), done, total));
        }
    }

    /** A file is about to be replaced: models that it is part of are no longer whole. */
    private static void forget(Path repository, RepositoryFile file) throws IOException {
        for (var manifest : manifests(repository)) {
            if (manifest.files().stream().anyMatch(other -> other.path().equals(file.path()))) {
                Files.deleteIfExists(Manifest.path(repository, manifest.model()));
            }
        }
    }

    /**
     * A model in the cache folder. Without a quantisation in the name: the one that is there, of several the usual one.
     *
     * @throws HubException if it isn't there, or there are several and none is the usual one
     */
    public PulledModel find(HubModel model) {
        var here = pulled(model);
        if (model.quant().isPresent()) {
            return here.stream().filter(found -> found.model().equals(model)).findFirst().orElseThrow(() -> notPulled(model, here));
        }
        if (here.isEmpty()) {
            throw notPulled(model, here);
        }
        return here.size() == 1 ? here.getFirst() : Listing.USUAL.stream()
                .flatMap(usual -> here.stream().filter(found -> found.model().quant().equals(Optional.of(usual)))).findFirst()
                .orElseThrow(() -> new HubException(Reason.NOT_PULLED, "of " + model + " several are here; name one of " + names(here)));
    }

    private static HubException notPulled(HubModel model, List<PulledModel> others) {
        return new HubException(Reason.NOT_PULLED, absent(model, others).getMessage() + "; pull it first");
    }

    private static HubException absent(HubModel model, List<PulledModel> others) {
        return new HubException(Reason.NOT_PULLED, model + " is not on this machine" + (others.isEmpty() ? "" : ", only " + names(others)));
    }

    private static String names(List<PulledModel> models) {
        return models.stream().map(found -> found.model().toString()).collect(Collectors.joining(", "));
    }

    private List<PulledModel> pulled(HubModel model) {
        var repository = repository(model);
        try {
            return manifests(repository).stream().map(manifest -> manifest.pulled(repository)).toList();
        } catch (IOException e) {
            throw storage(e);
        }
    }

    /** All models in the cache folder, by name. */
    public List<PulledModel> list() {
        var found = new ArrayList<PulledModel>();
        for (var owner : folders(options.folder())) {
            for (var name : folders(owner)) {
                try {
                    found.addAll(pulled(new HubModel(owner.getFileName().toString(), name.getFileName().toString(), Optional.empty())));
                } catch (IllegalArgumentException e) {
                    // a folder of somebody else
                }
            }
        }
        return List.copyOf(found);
    }

    private List<Path> folders(Path parent) {
        if (!Files.isDirectory(parent)) {
            return List.of();
        }
        try (var entries = Files.list(parent)) {
            return entries.filter(Files::isDirectory).sorted().toList();
        } catch (IOException e) {
            throw storage(e);
        }
    }

    private static List<Manifest> manifests(Path repository) throws IOException {
        var folder = Manifest.folder(repository);
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        var found = new ArrayList<Manifest>();
        try (var entries = Files.list(folder)) {
            for (var path : entries.filter(path -> path.toString().endsWith(".json")).sorted().toList()) {
                Manifest.read(path, repository).ifPresent(found::add);
            }
        }
        return found;
    }

    /**
     * Removes a model from the cache folder; without a quantisation in the name, all of the repository, unfinished files included. A
     * process that has it loaded keeps it, except on Windows, where that is an error.
     *
     * @return bytes that are free now
     * @throws HubException if it isn't there, or can't be removed
     */
    public long remove(HubModel model) {
        var repository = repository(model);
        try (var lock = RepositoryLock.take(options.folder(), model, PullListener.NONE)) {
            if (model.quant().isEmpty()) {
                if (!Files.isDirectory(repository)) {
                    throw absent(model, List.of());
                }
                return removeAll(repository);
            }
            var manifests = manifests(repository);
            var manifest = manifests.stream().filter(found -> found.model().equals(model)).findFirst()
                    .orElseThrow(() -> absent(model, pulled(model)));
            Files.delete(Manifest.path(repository, model));
            var shared = manifests.stream().filter(other -> !other.equals(manifest)).flatMap(other -> other.files().stream())
                    .map(RepositoryFile::path).collect(Collectors.toCollection(HashSet::new));
            long free = 0;
            for (var file : manifest.files()) {
                if (shared.add(file.path()) && Files.deleteIfExists(repository.resolve(file.path()))) {
                    free += file.size();
                }
            }
            return manifests.size() == 1 ? free + removeAll(repository) : free;
        } catch (IOException e) {
            throw storage(e);
        }
    }

    private static long removeAll(Path repository) throws IOException {
        long free = 0;
        try (Stream<Path> entries = Files.walk(repository)) {
            // what says that a model is whole goes first
            for (var path : entries.sorted(Comparator.<Path, Boolean>comparing(entry -> !entry.startsWith(Manifest.folder(repository)))
                    .thenComparing(Comparator.reverseOrder())).toList()) {
                free += Files.isRegularFile(path) ? Files.size(path) : 0;
                Files.deleteIfExists(path);
            }
        }
        return free;
    }

    private Path repository(HubModel model) {
        return options.folder().resolve(model.owner()).resolve(model.name());
    }

    private HubException storage(IOException e) {
        return new HubException(Reason.STORAGE, "the folder of the models, " + options.folder() + ", can't be used: "
                + LlamaException.reason(e) + "; make it writable, make room, or set PANAMA_LLAMA_CACHE to another folder", e);
    }
}
