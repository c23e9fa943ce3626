/**
 * The model that ships with the project and the way from the jar to a file that native code can map. Nothing here knows how a model
 * is run.
 */
package io.github.panamallama.models;
