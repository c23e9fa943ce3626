/** The command line and small programs. */
module panamallama.examples {
    requires info.picocli;
    requires org.jline.reader;
    requires org.jline.terminal;
    requires panamallama;
    requires panamallama.adapters;
    requires panamallama.layers;
    requires panamallama.models;
    requires panamallama.quantization;
    requires tools.jackson.databind;
    requires xchart;

    provides System.LoggerFinder with io.github.panamallama.examples.cli.Log;

    opens io.github.panamallama.examples.cli to info.picocli, tools.jackson.databind;
}
