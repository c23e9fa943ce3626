package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.HubModel;
import io.github.panamallama.hub.PullListener;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Fetches a model from the hub. */
@Command(
        name = "pull",
        description = {
            "Fetch a model from Hugging Face, for all commands that take a model.",
            "",
            "A pull that broke goes on where it was; the content is checked against the hub's hash.",
            "HF_TOKEN opens private and gated models, HF_ENDPOINT names a mirror.",
        })
final class PullCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "OWNER/REPOSITORY[:QUANT]", converter = HubName.class,
            description = "Without QUANT: Q4_K_M, else Q8_0, else the first that is there. The name of a file may stand in its place.")
    private HubModel model;

    @Override
    public Integer call() {
        var hub = Hubs.open(spec.commandLine());
        var shell = main.shell();
        var bar = new ProgressBar(shell, System::nanoTime);
        var listener = new PullListener() {
            @Override
            public void progress(Progress progress) {
                var part = progress.parts() == 1 ? "" : String.format(Locale.ROOT, " (%d of %d)", progress.part(), progress.parts());
                bar.show(progress.file().substring(progress.file().lastIndexOf('/') + 1) + part, progress.done(), progress.total());
            }

            @Override
            public void note(String line) {
                bar.end();
                shell.note(line);
            }

            @Override
            public boolean cancelled() {
                return main.interrupts().raised();
            }
        };
        try {
            var pulled = hub.pull(model, listener);
            bar.end();
            shell.note(pulled.model() + ", " + Units.bytes(pulled.bytes()));
            shell.println(pulled.path().toString());
        } finally {
            bar.end();
        }
        return Main.OK;
    }
}
