/* SPDX-License-Identifier: Apache-2.0 */
/* A pollable input stream that counts down an allowance and then fails, and the connection that
 * has it as its input. */
#include "api/meter.h"

#include <stdbool.h>
#include <stdint.h>

/* A box: the stream and the owner of the connection each hold it. */
struct at_meter {
    uint64_t left;
};

/* ---- the input ---- */

typedef struct {
    GInputStream parent;
    GPollableInputStream *base;
    struct at_meter *meter;
} MeterStream;

typedef struct {
    GInputStreamClass parent_class;
} MeterStreamClass;

static void meter_stream_pollable(GPollableInputStreamInterface *iface);
static GType meter_stream_get_type(void);
G_DEFINE_TYPE_WITH_CODE(MeterStream, meter_stream, G_TYPE_INPUT_STREAM,
                        G_IMPLEMENT_INTERFACE(G_TYPE_POLLABLE_INPUT_STREAM, meter_stream_pollable))

static gssize count(MeterStream *self, gssize n)
{
    if (n > 0)
        self->meter->left -= (uint64_t)n;
    return n;
}

static bool has_left(MeterStream *self, gsize *len, GError **error)
{
    if (self->meter->left == 0 && *len > 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                    "the client sends more than it may");
        return false;
    }
    *len = MIN(*len, self->meter->left);
    return true;
}

static gssize meter_read(GInputStream *stream, void *buffer, gsize len, GCancellable *cancellable,
                         GError **error)
{
    MeterStream *self = (MeterStream *)stream;
    if (!has_left(self, &len, error))
        return -1;
    return count(self,
                 g_input_stream_read(G_INPUT_STREAM(self->base), buffer, len, cancellable, error));
}

static gssize meter_read_nonblocking(GPollableInputStream *stream, void *buffer, gsize len,
                                     GError **error)
{
    MeterStream *self = (MeterStream *)stream;
    if (!has_left(self, &len, error))
        return -1;
    return count(self,
                 g_pollable_input_stream_read_nonblocking(self->base, buffer, len, NULL, error));
}

static gboolean meter_close(GInputStream *stream, GCancellable *cancellable, GError **error)
{
    return g_input_stream_close(G_INPUT_STREAM(((MeterStream *)stream)->base), cancellable, error);
}

static gboolean meter_is_readable(GPollableInputStream *stream)
{
    MeterStream *self = (MeterStream *)stream;
    return self->meter->left == 0 || g_pollable_input_stream_is_readable(self->base);
}

static GSource *meter_create_source(GPollableInputStream *stream, GCancellable *cancellable)
{
    MeterStream *self = (MeterStream *)stream;
    g_autoptr(GSource) base = g_pollable_input_stream_create_source(self->base, NULL);
    return g_pollable_source_new_full(stream, base, cancellable);
}

static void meter_stream_finalize(GObject *object)
{
    MeterStream *self = (MeterStream *)object;
    g_clear_object(&self->base);
    g_clear_pointer(&self->meter, g_rc_box_release);
    G_OBJECT_CLASS(meter_stream_parent_class)->finalize(object);
}

static void meter_stream_class_init(MeterStreamClass *class)
{
    GInputStreamClass *input = G_INPUT_STREAM_CLASS(class);
    input->read_fn = meter_read;
    input->close_fn = meter_close;
    G_OBJECT_CLASS(class)->finalize = meter_stream_finalize;
}

static void meter_stream_pollable(GPollableInputStreamInterface *iface)
{
    iface->is_readable = meter_is_readable;
    iface->create_source = meter_create_source;
    iface->read_nonblocking = meter_read_nonblocking;
}

static void meter_stream_init(MeterStream *self)
{
    self->meter = g_rc_box_new0(struct at_meter);
}

/* ---- the connection ---- */

typedef struct {
    GIOStream parent;
    GIOStream *base;
    GInputStream *input;
} MeterConnection;

typedef struct {
    GIOStreamClass parent_class;
} MeterConnectionClass;

static GType meter_connection_get_type(void);
G_DEFINE_TYPE(MeterConnection, meter_connection, G_TYPE_IO_STREAM)

static GInputStream *connection_input(GIOStream *stream)
{
    return ((MeterConnection *)stream)->input;
}

static GOutputStream *connection_output(GIOStream *stream)
{
    return g_io_stream_get_output_stream(((MeterConnection *)stream)->base);
}

static gboolean connection_close(GIOStream *stream, GCancellable *cancellable, GError **error)
{
    return g_io_stream_close(((MeterConnection *)stream)->base, cancellable, error);
}

/* Closing a socket does not block: no thread for it, as the parent class would take. */
static void connection_close_async(GIOStream *stream, int priority, GCancellable *cancellable,
                                   GAsyncReadyCallback callback, gpointer user)
{
    g_autoptr(GTask) task = g_task_new(stream, cancellable, callback, user);
    GError *error = NULL;
    if (connection_close(stream, cancellable, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

static gboolean connection_close_finish(GIOStream *stream, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

static void meter_connection_finalize(GObject *object)
{
    MeterConnection *self = (MeterConnection *)object;
    g_clear_object(&self->input);
    g_clear_object(&self->base);
    G_OBJECT_CLASS(meter_connection_parent_class)->finalize(object);
}

static void meter_connection_class_init(MeterConnectionClass *class)
{
    GIOStreamClass *stream = G_IO_STREAM_CLASS(class);
    stream->get_input_stream = connection_input;
    stream->get_output_stream = connection_output;
    stream->close_fn = connection_close;
    stream->close_async = connection_close_async;
    stream->close_finish = connection_close_finish;
    G_OBJECT_CLASS(class)->finalize = meter_connection_finalize;
}

static void meter_connection_init(MeterConnection *self)
{
}

GIOStream *at_meter_wrap(GIOStream *connection, struct at_meter **ret_meter)
{
    MeterStream *input = g_object_new(meter_stream_get_type(), NULL);
    input->base = G_POLLABLE_INPUT_STREAM(g_object_ref(g_io_stream_get_input_stream(connection)));
    MeterConnection *self = g_object_new(meter_connection_get_type(), NULL);
    self->base = g_object_ref(connection);
    self->input = G_INPUT_STREAM(input);
    *ret_meter = g_rc_box_acquire(input->meter);
    return G_IO_STREAM(self);
}

void at_meter_unref(struct at_meter *meter)
{
    g_rc_box_release(meter);
}

void at_meter_allow(struct at_meter *meter, uint64_t bytes)
{
    meter->left = bytes;
}
