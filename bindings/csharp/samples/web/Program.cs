// Pictures of a buffer in a browser.
//
//   web show BUFFER [--urls http://127.0.0.1:5000]     creates the buffer, and serves what is written to it
//   web camera BUFFER                                  writes 30 pictures a second, until Ctrl-C
//   web watch BUFFER... [--urls URL]                   creates the buffers, and tells at /buffers what comes through them

using WebSample;

switch (args)
{
    case ["show", var buffer, .. var rest]:
        Server.Run(buffer, rest);
        return 0;
    case ["camera", var buffer]:
        Camera.Run(buffer);
        return 0;
    case ["watch", _, ..]:
        string[] buffers = args.Skip(1).TakeWhile(argument => !argument.StartsWith('-')).ToArray();
        Watch.Run(buffers, args[(1 + buffers.Length)..]);
        return 0;
    default:
        Console.Error.WriteLine("usage: web show BUFFER [--urls URL], web camera BUFFER, web watch BUFFER... [--urls URL]");
        return 2;
}
