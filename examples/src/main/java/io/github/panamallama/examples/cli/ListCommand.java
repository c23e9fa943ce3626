package io.github.panamallama.examples.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Shows the models that were pulled. */
@Command(name = "list", description = "Show the models that were pulled.")
final class ListCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Option(names = "--json", description = "With the paths of their files.")
    private boolean json;

    @Override
    public Integer call() {
        var models = Hubs.open(spec.commandLine()).list();
        if (json) {
            var documents = new ArrayList<Map<String, Object>>();
            for (var model : models) {
                var document = new LinkedHashMap<String, Object>();
                document.put("model", model.model().toString());
                document.put("bytes", model.bytes());
                document.put("endpoint", model.endpoint());
                document.put("files", model.files().stream().map(Object::toString).toList());
                documents.add(document);
            }
            main.shell().println(Json.write(documents));
            return Main.OK;
        }
        if (models.isEmpty()) {
            main.shell().note("no models yet; 'panama-llama pull OWNER/REPOSITORY' fetches one");
        }
        int width = models.stream().mapToInt(model -> model.model().toString().length()).max().orElse(0);
        for (var model : models) {
            main.shell().println(InspectCommand.pad(model.model().toString(), width) + "  " + Units.bytes(model.bytes()));
        }
        return Main.OK;
    }
}
