/**
 * Searches for variants of a model: tournaments among candidates, judged on samples of texts by how far their next tokens are from the
 * model's own, and the files that say what was found. What varies (which blocks run, which types weights have) is the business of the
 * modules that search.
 */
package io.github.panamallama.runtime.search;
