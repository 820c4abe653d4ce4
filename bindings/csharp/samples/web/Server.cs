using System.Text;

namespace WebSample;

/// <summary>The page, the pictures as MJPEG, and the figures as JSON.</summary>
internal static class Server
{
    private const string Boundary = "picture";

    private const string Page = """
        <!doctype html>
        <html lang="en">
        <meta charset="utf-8">
        <title>ZeroBuffer</title>
        <style>
          body { margin: 0; background: #111; color: #eee; font: 16px sans-serif; }
          img { display: block; }
          p { margin: 8px; }
        </style>
        <img id="picture" src="picture" width="640" height="360" alt="">
        <p id="figures">no picture yet</p>
        <script>
          const figures = document.getElementById("figures");
          async function show() {
            const now = await (await fetch("statistics")).json();
            figures.textContent = (now.connected ? "" : "no camera; ")
              + `${now.pictures} pictures, ${now.rate.toFixed(0)} a second, ${now.latencyMs.toFixed(1)} ms from the camera`;
          }
          addEventListener("load", () => {
            document.getElementById("picture").src = "pictures";
            show();
            setInterval(show, 500);
          });
        </script>
        </html>
        """;

    internal static void Run(string buffer, string[] arguments)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(arguments);
        builder.Services.AddSingleton(_ => new Pictures(buffer));
        builder.Services.AddHostedService(services => services.GetRequiredService<Pictures>());
        WebApplication application = builder.Build();
        application.MapGet("/", () => Results.Content(Page, "text/html"));
        application.MapGet("/statistics", (Pictures pictures) => Results.Json(pictures.Statistics(), Json.Default.Statistics));
        application.MapGet("/picture", SendOne);
        application.MapGet("/pictures", Send);
        application.Run();
    }

    /// <summary>The newest picture, or the first one that comes.</summary>
    private static async Task<IResult> SendOne(HttpContext context, Pictures pictures)
    {
        await foreach (byte[] picture in pictures.Follow(context.RequestAborted).ConfigureAwait(false))
        {
            return Results.Bytes(picture, "image/jpeg");
        }
        return Results.NotFound();
    }

    private static async Task Send(HttpContext context, Pictures pictures)
    {
        HttpResponse response = context.Response;
        response.ContentType = $"multipart/x-mixed-replace; boundary={Boundary}";
        response.Headers.CacheControl = "no-store";
        await response.StartAsync(context.RequestAborted).ConfigureAwait(false);
        try
        {
            await foreach (byte[] picture in pictures.Follow(context.RequestAborted).ConfigureAwait(false))
            {
                string head = $"--{Boundary}\r\nContent-Type: image/jpeg\r\nContent-Length: {picture.Length}\r\n\r\n";
                await response.Body.WriteAsync(Encoding.ASCII.GetBytes(head), context.RequestAborted).ConfigureAwait(false);
                await response.Body.WriteAsync(picture, context.RequestAborted).ConfigureAwait(false);
                await response.Body.WriteAsync("\r\n"u8.ToArray(), context.RequestAborted).ConfigureAwait(false);
                await response.Body.FlushAsync(context.RequestAborted).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The browser has gone.
        }
    }
}
