// Pictures of a buffer in a browser.
//
//   web show BUFFER [--urls http://127.0.0.1:5000]     creates the buffer, and serves what is written to it
//   web camera BUFFER                                  writes 30 pictures a second, until Ctrl-C

using WebSample;

switch (args)
{
    case ["show", var buffer, .. var rest]:
        Server.Run(buffer, rest);
        return 0;
    case ["camera", var buffer]:
        Camera.Run(buffer);
        return 0;
    default:
        Console.Error.WriteLine("usage: web show BUFFER [--urls URL], web camera BUFFER");
        return 2;
}
