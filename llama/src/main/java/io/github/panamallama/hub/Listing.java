package io.github.panamallama.hub;

import io.github.panamallama.hub.Connection.BrokenException;
import io.github.panamallama.hub.HubException.Reason;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The GGUF files of a repository, in the order in which the hub lists them. Nothing that it says is believed unchecked. */
record Listing(HubModel model, List<RepositoryFile> files) {
    /** What is taken where no quantisation is asked for; the same as llama.cpp's choice. */
    static final List<String> USUAL = List.of("Q4_K_M", "Q8_0");

    private static final JsonMapper JSON = JsonMapper.builder().build();
    private static final int MOST_BYTES = 16 << 20;     // of one page; some thousand files
    private static final int MOST_PAGES = 100;
    private static final int MOST_NAMED = 20;
    private static final Pattern NEXT = Pattern.compile("<([^>]+)>\\s*;\\s*rel=\"?next\"?");
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");
    private static final Pattern SHA1 = Pattern.compile("[0-9a-f]{40}");

    static Listing fetch(Connection connection, HubModel model) throws BrokenException {
        var files = new ArrayList<RepositoryFile>();
        var names = new HashSet<String>();
        var page = connection.address("/api/models/" + model.repository() + "/tree/main", "recursive=true");
        for (int pages = 1; page != null; pages++) {
            if (pages > MOST_PAGES) {
                throw wrong(model, "has more than " + MOST_PAGES + " pages");
            }
            var answer = connection.get(page, Map.of("Accept", "application/json"));
            for (var entry : entries(connection, answer, model)) {
                if (entry.path("type").asString("").equals("file") && entry.path("path").asString("").endsWith(".gguf")) {
                    var file = file(entry, model);
                    if (!names.add(file.path())) {
                        throw wrong(model, "names " + file.path() + " twice");
                    }
                    files.add(file);
                }
            }
            page = next(connection, page, answer.header("Link"), model);
        }
        return new Listing(model, List.copyOf(files));
    }

    private static JsonNode entries(Connection connection, Connection.Answer answer, HubModel model) throws BrokenException {
        var bytes = connection.read(answer, MOST_BYTES + 1);
        if (bytes.length > MOST_BYTES) {
            throw wrong(model, "is longer than " + MOST_BYTES + " bytes");
        }
        try {
            var root = JSON.readTree(bytes);
            if (root.isArray()) {
                return root;
            }
        } catch (JacksonException e) {
            // as any other answer that is not a listing
        }
        throw wrong(model, "is not what the hub sends; is HF_ENDPOINT right, or does a proxy answer in its place?");
    }

    private static RepositoryFile file(JsonNode entry, HubModel model) {
        var path = entry.path("path").asString("");
        var lfs = entry.path("lfs");
        long size = (lfs.isObject() ? lfs : entry).path("size").asLong(-1);
        var hash = (lfs.isObject() ? lfs : entry).path("oid").asString("");
        if (!RepositoryFile.isSafe(path)) {
            throw wrong(model, "names a file '" + Names.printable(path) + "', which would not stay in its folder");
        }
        if (size < 1) {
            throw wrong(model, "says that " + path + " has " + (size < 0 ? "no size" : "no content"));
        }
        if (!(lfs.isObject() ? SHA256 : SHA1).matcher(hash).matches()) {
            throw wrong(model, "gives no hash for " + path);
        }
        return lfs.isObject() ? new RepositoryFile(path, size, hash, null) : new RepositoryFile(path, size, null, hash);
    }

    private static URI next(Connection connection, URI page, String link, HubModel model) {
        var match = link == null ? null : NEXT.matcher(link);
        if (match == null || !match.find()) {
            return null;
        }
        try {
            var next = page.resolve(match.group(1));
            if (connection.isOwn(next)) {
                return next;
            }
        } catch (IllegalArgumentException e) {
            // as a page elsewhere
        }
        throw wrong(model, "goes on at '" + Names.printable(match.group(1)) + "', which is not the hub's");
    }

    private static HubException wrong(HubModel model, String how) {
        return new HubException(Reason.BAD_ANSWER, "the listing of " + model.repository() + " " + how);
    }

    /**
     * The files of the model that is asked for, in the order of its parts.
     *
     * @throws HubException if there is none, or a part is missing
     */
    List<RepositoryFile> choose() {
        var models = files.stream().filter(RepositoryFile::isModel).filter(file -> file.part() == 1).toList();
        if (models.isEmpty()) {
            throw missing("no GGUF file" + (files.isEmpty() ? "; look for a repository of the same model whose name ends in GGUF"
                    : " of a model that writes text"));
        }
        if (model.quant().isEmpty()) {
            return parts(USUAL.stream().flatMap(quant -> models.stream().filter(file -> file.is(quant))).findFirst()
                    .orElse(models.getFirst()));
        }
        var wanted = model.quant().get();
        return parts((model.file().isPresent() ? files.stream().filter(file -> file.path().equals(wanted))
                : models.stream().filter(file -> file.is(wanted))).findFirst().orElseThrow(() -> missing("no " + wanted + "; it has "
                        + models.stream().map(file -> file.quant().orElse(file.path())).distinct().limit(MOST_NAMED)
                                .collect(Collectors.joining(", ")))));
    }

    private HubException missing(String what) {
        return new HubException(Reason.NO_SUCH_FILE, model.repository() + " has " + what);
    }

    private List<RepositoryFile> parts(RepositoryFile first) {
        if (first.parts() == 1) {
            return List.of(first);
        }
        if (first.part() != 1) {
            throw new HubException(Reason.NO_SUCH_FILE, first.path() + " is not the first of its " + first.parts()
                    + " parts; name that one");
        }
        return IntStream.rangeClosed(1, first.parts()).mapToObj(first::pathOfPart).map(path -> files.stream()
                .filter(file -> file.path().equals(path)).findFirst().orElseThrow(() -> new HubException(Reason.NO_SUCH_FILE,
                        "of the parts of " + first.path() + ", " + path + " is missing in " + model.repository()))).toList();
    }
}
